"""Makes variants from composite documents: each is stored, measured as a whole, verified and written to the catalog.

Rules:
* The stages are the content of the architecture: other stages make another architecture.
* A failed variant leaves nothing behind. A ready variant is not made again unless the request says so.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from registry.access import access_of_parts
from registry.artifacts import ArtifactStore
from registry.catalog_writer import CatalogWriter
from registry.pipeline.measurement import Measurement
from registry.pipeline.verification import Accuracy, Judgement, verify_reference
from registry.removal.unused_files import ArtifactTransaction
from registry.request import ProgressSink, Registration
from registry.samples import Arrays, Samples, save_arrays
from registry.step_runner import CheckedOutArtifacts, Show, StepRunner, measure_variant
from registry.topics import first_partitions
from runtimes.composite import CASCADE, CHAIN, CascadeDocument, CompositeDocument, Stage
from schemas.access import PUBLIC
from schemas.errors import OperatorError
from schemas.rows.catalog import Architecture, Processing, Task, Variant, VariantState
from store.pool import Pool

_MIXED: Final = "mixed"


class CompositePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A composite architecture to register, and the rows that measure it."""

    request: Registration
    """The request, in the form of `CatalogWriter`."""
    task: Task
    """Task that it fulfils; created if it does not exist."""
    source: str
    """SHA-256 of its parts, see `content_of`."""
    samples: Samples
    scores: str
    """Output that holds the scores of the classes."""
    processing: Processing | None = None
    """Processing around it, as registered."""
    kept: Arrays
    """Rows that workers warm it up with; the first one passes all stages."""


def content_of(*stages: str) -> str:
    """Return the SHA-256 of an architecture's content, which is made of the sources of its stages' architectures."""
    return hashlib.sha256(msgspec.json.encode(stages)).hexdigest()


def stage_of(variant: Variant) -> Stage:
    """Return a registered variant as a stage."""
    return Stage(variant=variant.name, runtime=variant.runtime, precision=variant.precision, artifact=variant.artifact)


async def note_access(plan: CompositePlan, pool: Pool, progress: ProgressSink) -> None:
    """Note who may use the composite, if its parts are not public."""
    widest = await access_of_parts(pool, plan.request.made_of)
    if widest == PUBLIC:
        return
    if plan.request.publisher is not None:  # a publisher may not know with whom other tenants share theirs
        progress.note(f"{plan.request.architecture} may be used only by tenants that may use all its stages")
    else:
        progress.note(f"{plan.request.architecture} is {widest}: tenants need access to all its stages to use it")


@dataclass(frozen=True)
class CompositeWriter:
    """Maker of the variants of one composite architecture; see `open`."""

    plan: CompositePlan
    catalog: CatalogWriter
    artifacts: ArtifactStore
    folder: Path
    runner: StepRunner

    @classmethod
    async def open(
        cls, plan: CompositePlan, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, folder: Path,
        runner: StepRunner,
    ) -> "CompositeWriter":  # fmt: skip
        """Read the registered variants of the architecture.

        `folder` holds temporary files; `runner` measures the variants. Raises `OperatorError` if the name belongs to
        something else.
        """
        plan.request.check()
        catalog = await CatalogWriter.open(
            pool, kafka, artifacts, plan.request, plan.source, processing=plan.processing
        )
        await asyncio.to_thread(save_arrays, folder / "samples", plan.samples.inputs)
        partitions = await first_partitions(kafka, plan.request.partitions)
        plan = replace(plan, request=replace(plan.request, partitions=partitions))
        return cls(plan, catalog, artifacts, folder, runner)

    async def write(
        self, label: str, document: CompositeDocument, show: Show, declared: float | None = None
    ) -> Variant:
        """Make the variant with this label, the middle part of its name; return it as registered.

        `declared` is its accuracy if there are no labels to measure it; `show` gets the place of the measurement.

        Raises:
            InvalidRequest: the variant does not run, or its outputs are wrong.
            OperatorError: its name has another document, or a service or the disk prevents it.
        """
        file = self.folder / "document"
        await asyncio.to_thread(file.write_bytes, msgspec.json.encode(document))
        brought = ArtifactTransaction(self.artifacts, self.catalog.pool)
        artifact = await asyncio.to_thread(brought.put, file)
        variant = self._row(label, document, artifact)
        known = self.catalog.variants.get(variant.name)
        if known is not None and known.state is VariantState.READY and not self.plan.request.again:
            if known.artifact != artifact:
                await brought.rollback()
                raise OperatorError(f"{known.name} is registered with other content: use --again to make it again")
            await self.catalog.ensure_topics()
            return known
        async with brought.removed_on_failure(variant.name):
            measurement, accuracy = await self._measure(variant, show, declared)
            await self._write_down(variant, measurement, accuracy, brought)
        return self.catalog.variants[variant.name]

    def _row(self, label: str, document: CompositeDocument, artifact: str) -> Variant:
        request = self.plan.request
        precisions = {stage.precision for stage in document.stages}
        return Variant(
            name=f"{request.architecture}.{label}.{request.hardware}",
            architecture=request.architecture,
            task=request.task,
            runtime=CASCADE if isinstance(document, CascadeDocument) else CHAIN,
            precision=precisions.pop() if len(precisions) == 1 else _MIXED,
            hardware=request.hardware,
            max_batch=request.max_batch,
            artifact=artifact,
            state=VariantState.GENERATED,
            partitions=request.partitions,
        )

    async def _measure(self, variant: Variant, show: Show, declared: float | None) -> tuple[Measurement, Accuracy]:
        plan = self.plan
        tensors = plan.processing.tensors if plan.processing else plan.task.inputs
        async with CheckedOutArtifacts(self.artifacts) as held:
            processing = await held.processing(plan.processing)
            measurement, outputs = await measure_variant(
                variant, self.artifacts, self.runner, show, threads=plan.request.threads,
                samples=self.folder / "samples", outputs=self.folder / "outputs",
                processing=processing and replace(processing, tensors=tensors, scores=plan.scores), tensors=tensors,
                context_tokens=plan.request.context_tokens,
            )  # fmt: skip
        judgement = Judgement(plan.task.measure, plan.scores)
        verified = await asyncio.to_thread(
            verify_reference, plan.samples, plan.task.outputs, judgement, outputs, {}, declared
        )
        return measurement, verified.accuracy

    async def _write_down(
        self, variant: Variant, measurement: Measurement, accuracy: Accuracy, brought: ArtifactTransaction
    ) -> None:
        if any(known.state is VariantState.READY for known in self.catalog.variants.values()):
            await self.catalog.write_ready(variant, measurement, accuracy)
            return
        plan, rows = self.plan, self.folder / "rows"
        await asyncio.to_thread(save_arrays, rows, plan.kept)
        architecture = Architecture(
            name=plan.request.architecture,
            task=plan.task.name,
            source=plan.source,
            source_format=variant.runtime,
            sample_rows=await asyncio.to_thread(brought.put, rows),
            processing=plan.processing,
        )
        await self.catalog.write_reference(plan.task, architecture, variant, measurement, accuracy)
