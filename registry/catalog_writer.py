"""Writes the rows and topics of a registration, and reads those of an earlier run.

Rules:
* The topic of a variant exists, with a leader, before the variant becomes ready.
* The row of the reference is written together with its task, architecture and profile, or not at all.
* A ready variant stays ready and keeps its profile while it is made or measured again, also by another registration of
  the same model at the same time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_topics, task_specs, variant_specs
from registry.access import check_new_access, check_publisher, write_access
from registry.artifacts import ArtifactStore
from registry.pipeline.measurement import Measurement
from registry.pipeline.verification import Accuracy
from registry.plan import PlannedVariant
from registry.quality import is_function
from registry.removal.unused_files import files_of
from registry.request import Registration
from registry.system_identity import join_system
from registry.versions import ModelVersion, keep_serving, note_registered
from schemas.errors import OperatorError
from schemas.rows.catalog import Architecture, Processing, Profile, Task, Variant, VariantState
from store.pool import Pool
from store.registry import (
    get_architecture,
    get_task,
    get_variant,
    list_variants,
    put_architecture,
    put_task,
    put_variant,
)

_COMPLETE = (VariantState.READY, VariantState.REFUSED)


@dataclass(frozen=True)
class CatalogWriter:
    """Rows and topics of one architecture and its variants; see `open`."""

    pool: Pool
    kafka: KafkaSettings
    artifacts: ArtifactStore
    request: Registration
    task: Task | None
    """Task of the model, if it existed beforehand."""
    variants: dict[str, Variant]
    """Variants with a row, by name."""
    version: ModelVersion
    """The version of its model that is registered."""

    @classmethod
    async def open(
        cls,
        pool: Pool,
        kafka: KafkaSettings,
        artifacts: ArtifactStore,
        request: Registration,
        sha256: str,
        version: ModelVersion | None = None,
        processing: Processing | None = None,
    ) -> Self:
        """Read the rows that an earlier run wrote for the file with this content.

        `sha256` is that of the model's content; without a `version` it is the model's only one; `processing` names its
        files by their SHA-256.

        Raises:
            OperatorError: the architecture has other content or another task, the task has another measure, a name is
                taken, or Kafka's topics belong to another system.
            Forbidden: the publisher does not own the model or the task.
        """
        await join_system(pool, kafka)
        name = request.architecture
        version = version or ModelVersion(model=name, number=1, architecture=name)
        await check_publisher(pool, request.publisher, version.model, request.task, request.access)
        if await get_task(pool, request.architecture) is not None:
            raise OperatorError(f"{request.architecture} is the name of a task; choose another --name")
        if await get_architecture(pool, request.task) is not None:
            raise OperatorError(f"{request.task} is the name of an architecture; choose another --task")
        task = await get_task(pool, request.task)
        if task is not None:
            _check_measure(request, task)
        earlier = await get_architecture(pool, request.architecture)
        await check_new_access(pool, request, version.model, known=earlier is not None or version.number > 1)
        for row in (task, earlier):
            if row is not None and row.removing:
                raise OperatorError(f"{row.name} is being unregistered: wait until that is done, and register again")
        if earlier is not None:
            _check_same(request, earlier, sha256, processing)
        known = await list_variants(pool, architecture=earlier.name) if earlier is not None else []
        return cls(pool, kafka, artifacts, request, task, {variant.name: variant for variant in known}, version)

    def unfinished(self, planned: Sequence[PlannedVariant]) -> list[PlannedVariant]:
        """Return the variants that are not complete; all of them if they are to be measured again."""
        return [variant for variant in planned if self.request.again or not self._is_complete(variant.row.name)]

    def generated(self, name: str) -> Variant | None:
        """Return the variant whose file an earlier run made and nothing more; None if there is none."""
        return None if self._is_complete(name) else self.variants.get(name)

    async def ensure_topics(self) -> None:
        """Create the topics of registered variants again, because a broker may have lost them."""
        if self.task is None:
            raise OperatorError(f"task {self.request.task} was deleted meanwhile; register again")
        specs = task_specs(self.task.name, self.task.partitions)
        for variant in self.variants.values():
            if variant.state is VariantState.READY:
                specs += variant_specs(variant.name, variant.partitions)
        await ensure_topics(self.kafka, specs)

    async def write_reference(
        self, task: Task, architecture: Architecture, variant: Variant, measurement: Measurement, accuracy: Accuracy
    ) -> None:
        """Write the rows of the reference in one transaction. A reference that an earlier run wrote keeps its profile.

        Raises:
            OperatorError: another registration took a name meanwhile; neither rows nor topics of this one are left.
        """
        topics = [*task_specs(task.name, task.partitions), *variant_specs(variant.name, variant.partitions)]
        if variant.name in self.variants and not self.request.again:
            await ensure_topics(self.kafka, topics)
            return
        profile = self._profile(variant, measurement, accuracy)
        variant = replace(variant, state=VariantState.READY, mixes_lengths=measurement.mixes_lengths)
        async with self.pool.transaction() as session:
            await put_task(session, task)
            await keep_serving(session, self.version)
            await put_architecture(session, architecture)  # waits for another registration that writes the same rows
            new_task = None if self.task else task.name
            await write_access(session, self.artifacts, self.request, self.version.model, new_task)
            if await get_variant(session, variant.name) is None:
                await note_registered(session, self.version, self.request.asked_by)
            await put_variant(session, variant, profile, unless_ready=not self.request.again)
            await self._check_kept(variant, replace(architecture, source=""))  # a source need not be stored
            # The rows are accepted now, and not yet visible. Nobody would answer queries in a topic without a row.
            await ensure_topics(self.kafka, topics)
        self.variants[variant.name] = variant

    async def write_generated(self, variant: Variant) -> None:
        """Write a variant whose file was just made."""
        if not self._is_complete(variant.name):
            await put_variant(self.pool, variant, unless_ready=True)

    async def write_ready(self, variant: Variant, measurement: Measurement, accuracy: Accuracy) -> None:
        """Write the profile and create the topics; only then make the variant ready."""
        profile = self._profile(variant, measurement, accuracy)
        variant = replace(variant, mixes_lengths=measurement.mixes_lengths)
        await put_variant(self.pool, replace(variant, state=VariantState.VERIFIED), profile, unless_ready=True)
        variant = replace(variant, state=VariantState.READY)
        async with self.pool.transaction() as session:
            await put_variant(session, variant, profile)  # first: raises if the name is being unregistered
            await write_access(session, self.artifacts, self.request, self.version.model, None)
            await self._check_kept(variant)
            await ensure_topics(self.kafka, variant_specs(variant.name, variant.partitions))
        self.variants[variant.name] = variant

    async def write_refused(self, variant: Variant, reason: str) -> None:
        """Write the reason for which a variant is never chosen. A ready one stays ready unless it is measured again."""
        variant = replace(variant, state=VariantState.REFUSED, reason=reason)
        await put_variant(self.pool, variant, unless_ready=not self.request.again)
        self.variants[variant.name] = variant

    async def _check_kept(self, variant: Variant, *architectures: Architecture) -> None:
        """Raise `OperatorError` if a file of the new rows was deleted; from now on their files stay.

        An unregistration, or a failed registration, locks both tables to find unused files. Until these rows are
        written it may have deleted a file that they need.
        """
        for sha256 in await asyncio.to_thread(files_of, [variant], architectures, self.artifacts):
            if not await asyncio.to_thread(self.artifacts.has, sha256):
                raise OperatorError(
                    f"file {sha256[:12]}... was removed meanwhile, because it was unused: register again"
                )

    def _is_complete(self, name: str) -> bool:
        variant = self.variants.get(name)
        return variant is not None and variant.state in _COMPLETE

    def _profile(self, variant: Variant, measurement: Measurement, accuracy: Accuracy) -> Profile:
        return Profile(
            variant=variant.name,
            device=measurement.device,
            threads=measurement.threads,
            load_s=measurement.load_s,
            memory_bytes=measurement.memory_bytes,
            accuracy=accuracy.value,
            accuracy_source=accuracy.source,
            samples=accuracy.samples,
            latency=measurement.latency,
            intercept_s=measurement.fit.intercept_s,
            slope_s=measurement.fit.slope_s,
            fit_error=measurement.fit.error,
            lengths=measurement.lengths,
            generation=measurement.generation,
        )


def _check_measure(request: Registration, task: Task) -> None:
    if request.measure not in (None, task.measure):
        raise OperatorError(
            f"task {task.name} and all its models are measured by {task.measure}: leave out --measure, or choose "
            "another --task"
        )
    if request.measure is None and is_function(task.measure):
        raise OperatorError(
            f"task {task.name} is measured by the function {task.measure}, which is Python code: give --measure "
            f"{task.measure} to run it here"
        )
    if task.measured_output and request.output not in (None, task.measured_output):
        raise OperatorError(f"task {task.name} measures its output {task.measured_output!r}: leave out --output")


def _check_same(request: Registration, earlier: Architecture, sha256: str, processing: Processing | None) -> None:
    if earlier.task != request.task:
        raise OperatorError(f"architecture {earlier.name} belongs to task {earlier.task}; choose another --name")
    if earlier.source != sha256:
        raise OperatorError(
            f"architecture {earlier.name} is registered with other content; register {request.file.name} under "
            "another --name, or delete the architecture first"
        )
    known = earlier.processing
    if (known and known.declared) != (processing and processing.declared):
        raise OperatorError(
            f"architecture {earlier.name} is registered with other processing; register it under another --name"
        )
