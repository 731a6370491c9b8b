"""The one way in: a model file becomes an architecture with variants that can be chosen.

Rules:
* Nothing is written down before the reference, the model as registered, has been verified and measured: whatever is
  wrong with a file leaves no trace. Then its task, architecture, variant and profile appear in one transaction.
* Every further variant is kept as soon as it is generated, and again when it is measured, so that a registration that
  was cut off goes on where it was when it is run again. What is complete is not done twice.
* Content decides: the same file under the same name is the same registration, another file is an error.
* A variant that is slower and no better than another is registered all the same: which is better depends on the load.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from broker.settings import KafkaSettings
from registry.artifacts import ArtifactStore, sha256_of
from registry.catalog_writer import CatalogWriter, profile_row, variant_row
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.inspection import Inspection, InspectModel, SourceFormat, source_format
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import Measurement, MeasureVariant
from registry.pipeline.verification import VerifiedReference, verify_reference, verify_variant
from registry.plan import GeneratorKind, NotApplicable, Recipe, plan_variants
from registry.registration import ProgressSink, ProgressSteps, Registration
from registry.samples import Arrays, Samples, load_arrays, read_samples, save_arrays
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.records import Architecture, Task, Variant, VariantState
from store.pool import Pool
from store.registry import list_variants


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
    recipes = plan_variants(request, form)
    writer = await CatalogWriter.open(pool, kafka, request, sha256)
    steps = ProgressSteps(progress, len(recipes) + 1)
    todo = [recipe for recipe in recipes if request.again or not writer.is_settled(recipe.variant_name(request))]
    if todo:
        with TemporaryDirectory(prefix="infaas-register-") as folder:
            pipeline = _Pipeline(request, writer, artifacts, Path(folder), steps)
            steps.show(f"{request.architecture}: reading the model")
            model = await pipeline.inspect(form, sha256)
            steps.next(f"{recipes[0].variant_name(request)}: measuring")
            reference = await pipeline.register_reference(recipes[0], model)
            for recipe in recipes[1:]:
                steps.next(f"{recipe.variant_name(request)}: generating")
                if recipe in todo:
                    await pipeline.register_variant(recipe, reference)
        steps.next(f"{request.architecture}: registered")
    else:
        await writer.ensure_topics()
        steps.finish(f"{request.architecture} is registered already")
    return await list_variants(pool, architecture=request.architecture)


def step_count(request: Registration) -> int:
    """How many steps `register` will report as the total; reads the beginning of the file."""
    return 1 + len(plan_variants(request, source_format(request.file)))


class _Model(msgspec.Struct, frozen=True):
    """The model as registered, found to fulfil its task, with the inputs to measure it with."""

    architecture: Architecture
    task: Task
    inspection: Inspection
    scores: str
    samples: Samples


class _Pipeline:
    """What each variant of one registration passes: generate, measure, verify, write down."""

    def __init__(
        self, request: Registration, writer: CatalogWriter, artifacts: ArtifactStore, folder: Path, steps: ProgressSteps
    ) -> None:
        self._request = request
        self._writer = writer
        self._artifacts = artifacts
        self._folder = folder
        self._steps = steps

    async def inspect(self, form: SourceFormat, sha256: str) -> _Model:
        """Check the file against its task, and lay the samples ready."""
        request = self._request
        architecture = Architecture(name=request.architecture, task=request.task, source=sha256, source_format=form)
        task = await self._writer.task()
        step = InspectModel(request.file.absolute(), form, task, self._folder / request.file.name)
        try:
            inspection = await run_step(step, Inspection)
        except ModelFailed as error:
            raise InvalidRequest(f"{request.file.name} cannot be read: {error}") from error
        signature = inspection.signature
        scores = signature.output(request.output)
        samples = await asyncio.to_thread(
            read_samples, signature, request.validation, request.calibration, scores, request.accuracy_samples
        )
        await self._save("samples", samples.inputs)
        if samples.calibration is not None:
            await self._save("calibration", samples.calibration)
        created = Task(
            name=request.task, inputs=signature.inputs, outputs=signature.outputs, partitions=request.partitions
        )
        return _Model(architecture, task or created, inspection, scores.name, samples)

    async def register_reference(self, recipe: Recipe, model: _Model) -> VerifiedReference:
        """Store, measure and verify the model as registered; of one that fails nothing stays."""
        request, samples = self._request, model.samples
        artifact = await self._store_source(model)
        variant = variant_row(request, recipe, artifact)
        with self._discarded_on_failure(variant):
            measurement, outputs = await self._measure(recipe, artifact, single_outputs=self._file("single"))
            single = await asyncio.to_thread(load_arrays, self._file("single"))
            specs = model.inspection.signature.narrowed_to(model.task)
            reference = verify_reference(samples, specs, model.scores, outputs, single, request.accuracy)
            profile = profile_row(request, variant.name, measurement, reference.accuracy, samples)
            await self._writer.write_reference(model.task, model.architecture, variant, profile)
        return reference

    async def register_variant(self, recipe: Recipe, reference: VerifiedReference) -> None:
        """Generate, measure and verify one variant; whatever the model makes fail is a refusal, with the reason."""
        request, origin = self._request, self._writer.variants[recipe.source_name(self._request)]
        variant = variant_row(request, recipe, origin.artifact)
        try:
            variant = await self._generate(recipe, variant, origin)
            self._steps.show(f"{variant.name}: measuring")
            measurement, outputs = await self._measure(recipe, variant.artifact)
        except (NotApplicable, ModelFailed) as error:
            await self._writer.write_refused(variant, str(error))
            return
        verification = verify_variant(reference, outputs)
        if verification.refusal:
            await self._writer.write_refused(variant, verification.refusal)
        else:
            profile = profile_row(request, variant.name, measurement, verification.accuracy, reference.samples)
            await self._writer.write_ready(variant, profile)

    # -- the steps -----------------------------------------------------------------------------------------------------
    async def _store_source(self, model: _Model) -> str:
        artifact = await asyncio.to_thread(self._artifacts.put, model.inspection.file)
        if model.architecture.source_format == SourceFormat.ONNX and artifact != model.architecture.source:
            raise OperatorError(f"{self._request.file} was changed while it was being registered")
        return artifact

    @contextmanager
    def _discarded_on_failure(self, variant: Variant) -> Generator[None]:
        """On an error, remove an artifact that no row refers to; what the model did wrong is the request's fault."""
        try:
            yield
        except (ModelFailed, InvalidRequest, OperatorError) as error:
            if variant.name not in self._writer.variants:
                self._artifacts.discard(variant.artifact)
            if isinstance(error, ModelFailed):
                raise InvalidRequest(f"{self._request.file.name} does not run: {error}") from error
            raise

    async def _generate(self, recipe: Recipe, variant: Variant, origin: Variant) -> Variant:
        """The variant with its file: the one an earlier run left, its origin's, or a new one."""
        if origin.state is VariantState.REFUSED:
            raise NotApplicable(f"it is made from {origin.name}, which was refused")
        earlier = self._writer.unfinished(variant.name)
        if earlier is not None and self._artifacts.has(earlier.artifact):
            return msgspec.structs.replace(variant, artifact=earlier.artifact)
        if recipe.generator is not GeneratorKind.AS_IS:
            target = self._folder / f"{recipe.label}.generated"
            calibration = self._file("calibration")
            source = self._artifacts.path(origin.artifact).absolute()
            step = GenerateVariant(recipe.generator, source, target, calibration if calibration.exists() else None)
            await run_step(step, type(None))
            variant = msgspec.structs.replace(variant, artifact=await asyncio.to_thread(self._artifacts.put, target))
            target.unlink()
        await self._writer.write_generated(variant)
        return variant

    async def _measure(
        self, recipe: Recipe, artifact: str, *, single_outputs: Path | None = None
    ) -> tuple[Measurement, Arrays]:
        request = self._request
        step = MeasureVariant(
            artifact=self._artifacts.path(artifact).absolute(),
            runtime=recipe.runtime,
            hardware=request.hardware,
            options=LoadOptions(precision=recipe.precision, threads=request.threads, max_batch=request.max_batch),
            samples=self._file("samples"),
            outputs=self._file("outputs"),
            single_outputs=single_outputs,
        )
        measurement = await run_step(step, Measurement)
        return measurement, await asyncio.to_thread(load_arrays, step.outputs)

    async def _save(self, name: str, arrays: Arrays) -> None:
        await asyncio.to_thread(save_arrays, self._file(name), arrays)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.npz"
