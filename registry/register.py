"""The one way in: a model file becomes an architecture with variants that can be chosen.

Rules:
* Nothing is written down before the reference, the model as registered, has been verified and measured: whatever is
  wrong with a file leaves no trace. Then its task, architecture, variant and profile appear in one transaction.
* Every further variant is kept as soon as it is generated, and again when it is measured, so that a registration that
  was cut off goes on where it was when it is run again. What is complete is not done twice.
* Content decides: the same file under the same name is the same registration, another file is an error.
* The topic of a variant exists, with a leader, before the variant becomes ready.
* A variant that is slower and no better than another is registered all the same: which is better depends on the load.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from broker.settings import KafkaSettings
from broker.topics import ensure_topics
from registry.artifacts import ArtifactStore, sha256_of
from registry.child import run_step
from registry.exported import make_safe
from registry.measure import Measured
from registry.plan import Generator, NothingToDo, Recipe, plan
from registry.registration import ProgressSink, Registration
from registry.rows import profile_row, variant_row
from registry.samples import Arrays, Samples, read_samples
from registry.signature import Signature, check_task
from registry.source import SourceFormat, source_format
from registry.step import Generate, Inspect, Measure, load_arrays, save_arrays
from registry.topics import task_specs, variant_spec
from registry.verify import Verdict, judge_reference, judge_variant
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.records import Architecture, Profile, Task, Variant, VariantState
from store.pool import Pool
from store.registry import (
    get_architecture,
    get_task,
    list_variants,
    put_architecture,
    put_task,
    put_variant,
)

_SETTLED = (VariantState.READY, VariantState.REFUSED)


async def register(
    request: Registration, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: ProgressSink
) -> list[Variant]:
    """Register a model, or finish registering it; returns its variants, refused ones with the reason.

    Cancelling leaves what is complete; running it again does the rest.

    Raises:
        InvalidRequest: the model, its samples or the request are wrong; nothing was registered.
        OperatorError: a file, a service, the disk or an earlier registration stands in the way.
    """
    request.check()
    form = await asyncio.to_thread(source_format, request.file)
    sha256 = await asyncio.to_thread(sha256_of, request.file)
    recipes = plan(request, form)
    known = await _known_variants(request, sha256, pool)
    with TemporaryDirectory(prefix="infaas-register-") as folder:
        registrar = _Registrar(request, recipes, known, Path(folder), pool, kafka, artifacts, progress)
        if request.again or any(not registrar.settled(recipe) for recipe in recipes):
            await registrar.run(
                Architecture(name=request.architecture, task=request.task, source=sha256, source_format=form)
            )
        else:
            await registrar.confirm()
    return await list_variants(pool, architecture=request.architecture)


def step_count(request: Registration) -> int:
    """How many steps `register` will report as the total; reads the beginning of the file."""
    return 1 + len(plan(request, source_format(request.file)))


class _Reference(msgspec.Struct, frozen=True):
    """What the other variants are compared with."""

    signature: Signature
    scores: str
    samples: Samples
    outputs: Arrays
    accuracy: float


class _Registrar:
    """One registration under way, in a temporary folder of its own."""

    def __init__(
        self,
        request: Registration,
        recipes: Sequence[Recipe],
        known: Mapping[str, Variant],
        folder: Path,
        pool: Pool,
        kafka: KafkaSettings,
        artifacts: ArtifactStore,
        progress: ProgressSink,
    ) -> None:
        self._request = request
        self._recipes = recipes
        self._variants = dict(known)
        self._folder = folder
        self._pool = pool
        self._kafka = kafka
        self._artifacts = artifacts
        self._progress = progress
        self._done = 0

    def settled(self, recipe: Recipe) -> bool:
        """Whether nothing is left to do for a variant."""
        variant = self._variants.get(recipe.variant_name(self._request))
        return variant is not None and variant.state in _SETTLED

    async def confirm(self) -> None:
        """Everything is registered: only see that its topics exist, since a broker may have forgotten them."""
        ready = [v for v in self._variants.values() if v.state is VariantState.READY]
        await ensure_topics(self._kafka, [*task_specs(await self._task()), *map(variant_spec, ready)])
        self._step(f"{self._request.architecture} is registered already", len(self._recipes) + 1)

    async def run(self, architecture: Architecture) -> None:
        """Do what is missing."""
        self._step(f"{self._request.architecture}: reading the model", 0)
        source = self._folder / "model" / self._request.file.name  # errors name the file as the person does
        source.parent.mkdir()
        signature, task, samples, scores = await self._prepare(architecture, source)
        reference = await self._reference(architecture, task, signature, samples, scores, source)
        for recipe in self._recipes[1:]:
            self._step(f"{recipe.variant_name(self._request)}: generating")
            if self._request.again or not self.settled(recipe):
                await self._derive(recipe, reference)
        self._step(f"{self._request.architecture}: registered")

    # -- the model as registered ---------------------------------------------------------------------------------------
    async def _prepare(self, architecture: Architecture, source: Path) -> tuple[Signature, Task, Samples, str]:
        """Check the file against the task, leave a copy that is safe to load in `source`, and read the samples."""
        request, form = self._request, architecture.source_format
        exported = form == SourceFormat.EXPORTED_PROGRAM
        if exported:
            await asyncio.to_thread(make_safe, request.file, source)
        else:
            await asyncio.to_thread(_link, request.file, source)
        signature = await self._inspect(source, form)
        task = await get_task(self._pool, request.task)
        if exported:
            signature = signature.named_after(task)
            names = [output.name for output in signature.outputs]
            await asyncio.to_thread(make_safe, request.file, source, names)
        if task is not None:
            check_task(task, signature)
        scores = signature.output(request.output)
        samples = await asyncio.to_thread(
            read_samples, signature, request.validation, request.calibration, scores, request.accuracy_samples
        )
        await asyncio.to_thread(save_arrays, self._samples_file, samples.inputs)
        if samples.calibration is not None:
            await asyncio.to_thread(save_arrays, self._calibration_file, samples.calibration)
        created = Task(
            name=request.task, inputs=signature.inputs, outputs=signature.outputs, partitions=request.partitions
        )
        return signature, task or created, samples, scores.name

    async def _inspect(self, source: Path, form: str) -> Signature:
        try:
            return await run_step(Inspect(source, form), Signature)
        except ModelFailed as error:
            raise InvalidRequest(f"{self._request.file.name} cannot be read: {error}") from error

    async def _reference(
        self,
        architecture: Architecture,
        task: Task,
        signature: Signature,
        samples: Samples,
        scores: str,
        source: Path,
    ) -> _Reference:
        recipe = self._recipes[0]
        name = recipe.variant_name(self._request)
        self._step(f"{name}: measuring")
        artifact = await self._put_source(architecture, source)
        try:
            measured, outputs = await self._measure(recipe, artifact, single=True)
            single = await asyncio.to_thread(load_arrays, self._folder / "single.npz")
            declared = self._request.accuracy
            verdict = judge_reference(samples, outputs, single, signature.narrowed_to(task), scores, declared)
            await self._write_reference(
                architecture, task, variant_row(self._request, recipe, artifact), measured, verdict, samples
            )
        except (ModelFailed, InvalidRequest, OperatorError) as error:
            if name not in self._variants:
                self._artifacts.discard(artifact)
            if isinstance(error, ModelFailed):
                raise InvalidRequest(f"{self._request.file.name} does not run: {error}") from error
            raise
        return _Reference(signature, scores, samples, outputs, verdict.accuracy)

    async def _put_source(self, architecture: Architecture, source: Path) -> str:
        artifact = await asyncio.to_thread(self._artifacts.put, source)
        if architecture.source_format == SourceFormat.ONNX and artifact != architecture.source:
            raise OperatorError(f"{self._request.file} was changed while it was being registered")
        return artifact

    async def _write_reference(
        self,
        architecture: Architecture,
        task: Task,
        variant: Variant,
        measured: Measured,
        verdict: Verdict,
        samples: Samples,
    ) -> None:
        """Topics first, then all rows at once. A reference that was written earlier keeps its profile."""
        await ensure_topics(self._kafka, [*task_specs(task), variant_spec(variant)])
        if variant.name in self._variants and not self._request.again:
            return
        variant = msgspec.structs.replace(variant, state=VariantState.READY)
        async with self._pool.transaction() as session:
            await put_task(session, task)
            await put_architecture(session, architecture)
            await put_variant(session, variant, profile_row(self._request, variant.name, measured, verdict, samples))
        self._variants[variant.name] = variant

    # -- the variants made from it -------------------------------------------------------------------------------------
    async def _derive(self, recipe: Recipe, reference: _Reference) -> None:
        """Generate, measure and judge one variant; whatever the model makes fail is a refusal, with the reason."""
        name = recipe.variant_name(self._request)
        origin = self._variants[_sibling(name, recipe.source)]
        variant = variant_row(self._request, recipe, origin.artifact)
        try:
            if origin.state is VariantState.REFUSED:
                raise NothingToDo(f"it is made from {origin.name}, which was refused")
            variant = await self._generated(recipe, variant)
            self._show(f"{name}: measuring")
            measured, outputs = await self._measure(recipe, variant.artifact)
        except (NothingToDo, ModelFailed) as error:
            return await self._refuse(variant, str(error))
        specs = reference.signature.outputs
        verdict = judge_variant(
            reference.samples, outputs, reference.outputs, reference.accuracy, specs, reference.scores
        )
        if verdict.refused:
            return await self._refuse(variant, verdict.refused)
        return await self._finish(variant, profile_row(self._request, name, measured, verdict, reference.samples))

    async def _generated(self, recipe: Recipe, variant: Variant) -> Variant:
        """The variant with its file: the one an earlier run left, or a new one."""
        earlier = self._variants.get(variant.name)
        if earlier is not None and earlier.state not in _SETTLED and self._artifacts.has(earlier.artifact):
            return earlier
        if recipe.generator is not Generator.AS_IS:
            target = self._folder / f"{recipe.label}.generated"
            calibration = self._calibration_file if self._calibration_file.exists() else None
            source = self._artifacts.path(variant.artifact)
            await run_step(Generate(recipe.generator, source, target, calibration), type(None))
            artifact = await asyncio.to_thread(self._artifacts.put, target)
            target.unlink()
            variant = msgspec.structs.replace(variant, artifact=artifact)
        if earlier is None or earlier.state not in _SETTLED:
            await put_variant(self._pool, variant)
        return variant

    async def _finish(self, variant: Variant, profile: Profile) -> None:
        """Keep the profile, make the topic, and only then let the variant be chosen."""
        if variant.name not in self._variants or self._variants[variant.name].state is not VariantState.READY:
            await put_variant(self._pool, msgspec.structs.replace(variant, state=VariantState.VERIFIED), profile)
        await ensure_topics(self._kafka, [variant_spec(variant)])
        variant = msgspec.structs.replace(variant, state=VariantState.READY)
        await put_variant(self._pool, variant, profile)
        self._variants[variant.name] = variant

    async def _refuse(self, variant: Variant, reason: str) -> None:
        variant = msgspec.structs.replace(variant, state=VariantState.REFUSED, reason=reason)
        await put_variant(self._pool, variant)
        self._variants[variant.name] = variant

    # -- both ----------------------------------------------------------------------------------------------------------
    @property
    def _samples_file(self) -> Path:
        return self._folder / "samples.npz"

    @property
    def _calibration_file(self) -> Path:
        return self._folder / "calibration.npz"

    async def _measure(self, recipe: Recipe, artifact: str, *, single: bool = False) -> tuple[Measured, Arrays]:
        request, outputs = self._request, self._folder / "outputs.npz"
        step = Measure(
            artifact=self._artifacts.path(artifact).absolute(),
            runtime=recipe.runtime,
            hardware=request.hardware,
            options=LoadOptions(precision=recipe.precision, threads=request.threads, max_batch=request.max_batch),
            samples=self._samples_file,
            outputs=outputs,
            single=self._folder / "single.npz" if single else None,
        )
        measured = await run_step(step, Measured)
        return measured, await asyncio.to_thread(load_arrays, outputs)

    async def _task(self) -> Task:
        task = await get_task(self._pool, self._request.task)
        if task is None:
            raise OperatorError(f"task {self._request.task} was deleted meanwhile; register again")
        return task

    def _step(self, text: str, forward: int = 1) -> None:
        self._done += forward
        self._show(text)

    def _show(self, text: str) -> None:
        self._progress.step(self._done, len(self._recipes) + 1, text)


async def _known_variants(request: Registration, sha256: str, pool: Pool) -> dict[str, Variant]:
    """What an earlier run registered of this file; raises where it was another file, task or batch size."""
    earlier = await get_architecture(pool, request.architecture)
    if earlier is None:
        return {}
    if earlier.task != request.task:
        raise OperatorError(f"architecture {earlier.name} belongs to task {earlier.task}; choose another --name")
    if earlier.source != sha256:
        raise OperatorError(
            f"architecture {earlier.name} is registered with other content; register {request.file.name} under "
            "another --name, or delete the architecture first"
        )
    known = {v.name: v for v in await list_variants(pool, architecture=earlier.name)}
    if not request.again and any(v.max_batch != request.max_batch for v in known.values()):
        raise OperatorError(
            f"architecture {earlier.name} is registered with another largest batch than {request.max_batch}: "
            "give the same --max-batch, or have it measured --again"
        )
    return known


def _link(file: Path, link: Path) -> None:
    link.symlink_to(file.absolute())


def _sibling(variant: str, label: str | None) -> str:
    architecture, _, hardware = variant.split(".")
    return f"{architecture}.{label}.{hardware}"
