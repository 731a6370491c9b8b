"""Registers a model file as an architecture with variants that selectors can choose.

Steps:
1. Recognise the format and the content of the file, and the version of its model.
2. Plan the variants to make.
3. Inspect: check the file against its task, prepare the samples, and choose the measure.
4. Measure, verify and write the reference, which is the model as registered.
5. Generate, measure, verify and write each other variant.
6. Let a new version take over.

Rules:
* Nothing is written before the reference is verified and measured, so a wrong file leaves no rows. Then its task,
  architecture, variant and profile are written in one transaction.
* Each other variant is written when it is generated, and again when it is measured. An interrupted registration resumes
  when it is run again; completed steps are not repeated.
* Content decides identity: the same file under the same name is the same registration, another file is the model's next
  version.
* A variant that is slower and no more accurate than another is registered as well: which one is better depends on the
  load.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from process.cpus import BEHIND_SERVICES
from registry.artifacts import ArtifactStore
from registry.catalog_writer import CatalogWriter
from registry.comparison import LEAST_GAIN, best_gain
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.inspection import Inspection, InspectModel, labels_of, model_tensors, token_outputs
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import Measurement
from registry.pipeline.source_format import SourceFormat, model_sha256, source_format, weights_precision
from registry.pipeline.step_process import StepLimits
from registry.pipeline.verification import (
    Judgement,
    VerifiedReference,
    is_relative,
    judge,
    new_task,
    verify_reference,
    verify_variant,
)
from registry.plan import PlannedVariant, PlanVariants
from registry.recipes import GeneratorKind, NotApplicable
from registry.removal.unused_files import ArtifactTransaction
from registry.request import ProgressSink, Registration
from registry.samples import Arrays, Samples, load_arrays, most_rows, read_samples, save_arrays, take_rows
from registry.step_runner import LOCAL, CheckedOutArtifacts, Show, StepRunner, measure_variant, variant_outputs
from registry.topics import first_partitions
from registry.versions import by_content, find_version, made_with, take_over
from schemas.errors import InvalidRequest, ModelFailed, OperatorError
from schemas.rows.catalog import Architecture, Task, TensorSpec, Variant, VariantState
from store.pool import Pool
from store.registry import get_architecture, get_profile, get_variant, list_variants

_KEPT_ROWS: Final = 8
_NOTHING_TO_COMPARE: Final = (
    "the accuracy loss cannot be measured without inputs: register --again with a --calibration file, or select the "
    "variant by --variant"
)


async def register(
    request: Registration,
    pool: Pool,
    kafka: KafkaSettings,
    artifacts: ArtifactStore,
    progress: ProgressSink,
    runner: StepRunner = LOCAL,
) -> list[Variant]:
    """Register a model, or resume its registration; return its variants, refused ones with the reason.

    `runner` runs the steps whose results are valid for one hardware type. Cancelling keeps completed steps; a later
    call does the rest.

    Raises:
        InvalidRequest: the model, its samples or the request are wrong; nothing was registered.
        OperatorError: a file, a service, the disk or an earlier registration prevents it.
    """
    request.check()
    form, precision = await _recognise(request.file)
    if form.is_generative:
        request = replace(request, max_batch=request.sequences)
    sha256 = await asyncio.to_thread(model_sha256, request.file, form)
    options = await asyncio.to_thread(made_with, request)
    processing = await asyncio.to_thread(by_content, request.processing)
    version = await find_version(pool, request, sha256, options, processing)
    request = replace(request, architecture=version.architecture)
    request.check()  # the version number makes the name longer
    steps = _Steps(progress)
    of_variants = replace(request, partitions=await first_partitions(kafka, request.partitions))
    planned = await _plan(of_variants, form, precision, runner, steps.show)
    steps.total = len(planned) + 1
    writer = await CatalogWriter.open(pool, kafka, artifacts, request, sha256, version, processing)
    unfinished = {variant.row.name for variant in writer.unfinished(planned)}
    if unfinished:
        with TemporaryDirectory(prefix="infaas-register-") as folder:
            pipeline = _Pipeline(request, writer, artifacts, Path(folder), steps, runner)
            steps.show(f"{request.architecture}: reading the model")
            model = await pipeline.inspect(form, sha256, options)
            if model.inspection.alone:
                planned = tuple(variant.of_one() for variant in planned)
            steps.next(f"{planned[0].row.name}: measuring")
            reference = await pipeline.register_reference(planned[0], model)
            for variant in planned[1:]:
                steps.next(f"{variant.row.name}: generating")
                if variant.row.name in unfinished:
                    await pipeline.register_variant(variant, reference)
        steps.next(f"{request.architecture}: registered")
    else:
        await writer.ensure_topics()
        steps.finish(f"{request.architecture} is registered already")
    held = request.hold or request.again
    if not held and (note := await take_over(pool, version, request.asked_by)):  # also if interrupted just before
        steps.note(note)
    return await list_variants(pool, architecture=request.architecture)


async def step_count(request: Registration, runner: StepRunner = LOCAL, show: Show = lambda _text: None) -> int:
    """Return the number of steps that `register` reports as the total. Raises errors of the file and of the plan."""
    return 1 + len(await _plan(request, *await _recognise(request.file), runner, show))


async def _recognise(file: Path) -> tuple[SourceFormat, str]:
    """Return the format of a model file, and the precision of its weights."""
    form = await asyncio.to_thread(source_format, file)
    return form, await asyncio.to_thread(weights_precision, file, form)


async def _plan(
    request: Registration, form: SourceFormat, precision: str, runner: StepRunner, show: Show
) -> tuple[PlannedVariant, ...]:
    request = replace(request, access=None, publisher=None)  # the plan does not depend on the owner
    return await runner.run(PlanVariants(request, form, precision), tuple[PlannedVariant, ...], show)


class _Model(msgspec.Struct, frozen=True):
    """The inspected model with its task, and the inputs that measure it."""

    architecture: Architecture
    task: Task
    inspection: Inspection
    samples: Samples
    judgement: Judgement


class _Pipeline:
    """Steps 3 to 5 of one registration."""

    def __init__(
        self, request: Registration, writer: CatalogWriter, artifacts: ArtifactStore, folder: Path, steps: "_Steps",
        runner: StepRunner,
    ) -> None:  # fmt: skip
        self._request = request
        self._writer = writer
        self._artifacts = artifacts
        self._folder = folder
        self._steps = steps
        self._runner = runner
        self._brought = ArtifactTransaction(artifacts, writer.pool)
        self._processing = request.processing
        """Processing around the model, its files as paths."""
        self._tensors: tuple[TensorSpec, ...] = ()
        """Inputs of the model itself, without processing."""
        self._returned: tuple[TensorSpec, ...] = ()
        """Outputs of the model itself."""

    async def inspect(self, form: SourceFormat, sha256: str, options: dict[str, str]) -> _Model:
        """Check the file against its task, and prepare the samples."""
        request, task = self._request, self._writer.task
        architecture = Architecture(
            name=request.architecture, task=request.task, source=sha256, source_format=form, made_with=options,
            model=self._writer.version.model, version=self._writer.version.number,
        )  # fmt: skip
        output = request.output or (task and task.measured_output) or None
        copy = self._folder / request.file.name
        step = InspectModel(request.file.absolute(), form, task, output, copy, request.processing, request.batch_axes)
        try:
            found = await run_step(step, Inspection, StepLimits(nice=BEHIND_SERVICES))
        except ModelFailed as error:
            raise InvalidRequest(f"{request.file.name} cannot be read: {error}") from error
        for note in found.notes:
            self._steps.note(note)
        self._tensors = found.tensors
        if request.processing is not None:
            tensors = tuple(replace(spec, longest=None) for spec in found.tensors)  # the architecture holds `longest`
            returned = token_outputs(found.tensors, found.returned)
            self._processing = replace(request.processing, tensors=tensors, returned=returned, scores=found.scores)
        self._returned = found.returned
        architecture = replace(architecture, inputs=found.tensors)
        samples = await asyncio.to_thread(self._prepare_samples, found)
        found = replace(found, signature=found.signature.with_defaults(samples.inputs))
        judgement = judge(request, task, found, samples, self._steps.note)
        return _Model(architecture, task or new_task(request, found, samples, judgement), found, samples, judgement)

    async def register_reference(self, planned: PlannedVariant, model: _Model) -> VerifiedReference:
        """Store, measure and verify the model as registered; remove its artifacts if it fails."""
        found, declared, judgement = model.inspection, self._request.accuracy, model.judgement
        async with self._brought.removed_on_failure(self._request.file.name):
            variant = replace(planned.row, artifact=await self._store_source(model))
            # Answers of a language model may differ in a batch: other sums round otherwise, and one token decides all.
            alone = None if SourceFormat(model.architecture.source_format).is_generative else self._file("single")
            measurement, outputs = await self._measure(planned, variant, alone)
            single = await asyncio.to_thread(load_arrays, alone) if alone else Arrays()
            others = await self._reference_outputs(model)
            reference = await asyncio.to_thread(
                verify_reference, model.samples, found.outputs, judgement, outputs, single, declared, others
            )
            architecture = await asyncio.to_thread(self._with_kept_files, model)
            task = model.task
            if is_relative(self._request, model.samples, judgement) and not task.reference:
                task = replace(task, reference=variant.name)
            await self._writer.write_reference(task, architecture, variant, measurement, reference.accuracy)
        return reference

    async def register_variant(self, planned: PlannedVariant, reference: VerifiedReference) -> None:
        """Generate, measure and verify one variant; a failure caused by the model becomes a refusal with its reason."""
        origin = self._writer.variants[planned.source]
        variant = replace(planned.row, artifact=origin.artifact)
        if planned.is_lossy and not planned.asked_for and not reference.samples.real:
            await self._writer.write_refused(variant, _NOTHING_TO_COMPARE)
            return
        try:
            variant = await self._generate(planned.generator, variant, origin)
            self._steps.show(f"{variant.name}: measuring")
            measurement, outputs = await self._measure(planned, variant)
            if planned.is_wide:
                await self._check_gain(measurement, origin)
        except (NotApplicable, ModelFailed) as error:
            await self._writer.write_refused(variant, str(error))
            return
        most_lost = self._request.max_accuracy_loss
        verification = await asyncio.to_thread(verify_variant, reference, outputs, most_lost)
        if verification.refusal:
            await self._writer.write_refused(variant, verification.refusal)
        else:
            await self._writer.write_ready(variant, measurement, verification.accuracy)

    # -- the steps -----------------------------------------------------------------------------------------------------
    def _prepare_samples(self, found: Inspection) -> Samples:
        request, task = self._request, self._writer.task
        samples = read_samples(
            found.signature,
            request.validation,
            request.calibration,
            found.measured,
            min(request.accuracy_samples, most_rows(found.returned)),
            measure=task.measure if task else request.measure,
            classes=(task and task.classes) or request.classes or found.classes or labels_of(request.processing),
        )
        save_arrays(self._file("samples"), samples.inputs)
        if samples.calibration is not None:
            tensors = self._processing and model_tensors(samples.calibration, self._processing)
            save_arrays(self._file("calibration"), tensors or samples.calibration)
        return samples

    async def _reference_outputs(self, model: _Model) -> Arrays | None:
        """Return the outputs of the task's reference for the samples; None if no other model is compared with."""
        name = model.task.reference
        if not is_relative(self._request, model.samples, model.judgement) or not name or name in self._writer.variants:
            return None
        variant = await get_variant(self._writer.pool, name)
        architecture = variant and await get_architecture(self._writer.pool, variant.architecture)
        if variant is None or architecture is None:
            raise OperatorError(f"{name}, the reference of task {model.task.name}, was deleted")
        self._steps.show(f"{name}: computing the reference outputs")
        rows, threads = self._file("samples"), self._request.threads
        return await variant_outputs(variant, architecture.processing, self._artifacts, rows, threads, self._runner)

    def _with_kept_files(self, model: _Model) -> Architecture:
        """Return the architecture with the artifacts that loading it needs: sample rows and files of its processing."""
        processing = self._processing and self._processing.with_files(lambda file: self._brought.put(Path(file)))
        return replace(model.architecture, sample_rows=self._keep_rows(model.samples), processing=processing)

    def _keep_rows(self, samples: Samples) -> str:
        """Store some inputs that the model is known to compute; workers warm it up with them."""
        rows = self._file("rows")
        save_arrays(rows, take_rows(samples.inputs, 0, min(samples.count, _KEPT_ROWS)))
        return self._brought.put(rows)

    async def _store_source(self, model: _Model) -> str:
        artifact = await asyncio.to_thread(self._brought.put, model.inspection.file)
        as_it_was = model.inspection.file == self._request.file.absolute()
        if as_it_was and artifact != model.architecture.source:
            raise OperatorError(f"{self._request.file} was changed while it was being registered")
        return artifact

    async def _generate(self, generator: GeneratorKind, variant: Variant, origin: Variant) -> Variant:
        """Return the variant with its file: the file of an earlier run, the file of its source, or a new one."""
        if origin.state is VariantState.REFUSED:
            raise NotApplicable(f"it is made from {origin.name}, which was refused")
        earlier = self._writer.generated(variant.name)
        if earlier is not None and await asyncio.to_thread(self._artifacts.has, earlier.artifact):
            return replace(variant, artifact=earlier.artifact, tuning=earlier.tuning)
        if generator is GeneratorKind.AS_IS:
            variant = replace(variant, tuning=origin.tuning)
        else:
            target, calibration = self._folder / f"{variant.name}.generated", self._file("calibration")
            async with CheckedOutArtifacts(self._artifacts) as held:
                step = GenerateVariant(
                    generator=generator,
                    source=await held.file(origin.artifact),
                    target=target,
                    calibration=calibration if calibration.exists() else None,
                    samples=self._file("samples"),
                    hardware=variant.hardware,
                    batch=variant.max_batch,
                    most_lost=self._request.max_accuracy_loss,
                )
                tuning = await self._runner.run(step, str, self._steps.aside)
            artifact = await asyncio.to_thread(self._artifacts.put, target)
            variant = replace(variant, artifact=artifact, tuning=tuning)
            target.unlink()
        await self._writer.write_generated(variant)
        return variant

    async def _check_gain(self, measurement: Measurement, origin: Variant) -> None:
        """Raise `NotApplicable` if a variant on more cores is hardly faster than the same variant on fewer cores."""
        profile = await get_profile(self._writer.pool, origin.name)
        gain = best_gain(measurement.latency, profile.latency) if profile is not None else 1.0
        if gain < LEAST_GAIN:
            raise NotApplicable(
                f"on {measurement.threads} cores it is {gain:.2f} times as fast as {origin.name} at most; at least "
                f"{LEAST_GAIN:g} times are required"
            )

    async def _measure(
        self, planned: PlannedVariant, variant: Variant, single_outputs: Path | None = None
    ) -> tuple[Measurement, Arrays]:
        return await measure_variant(
            variant, self._artifacts, self._runner, self._steps.aside, threads=planned.threads,
            context_tokens=self._request.context_tokens,
            samples=self._file("samples"), outputs=self._file("outputs"), single_outputs=single_outputs,
            processing=self._processing, tensors=self._tensors, returned=self._returned,
        )  # fmt: skip

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.npz"


class _Steps:
    """Step counter of one registration, which shows its progress."""

    def __init__(self, sink: ProgressSink) -> None:
        self.total = 1
        self._sink = sink
        self._done = 0
        self._text = ""

    def show(self, text: str) -> None:
        """Show the current activity within a step."""
        self._text = text
        self._sink.step(self._done, self.total, text)

    def aside(self, text: str) -> None:
        """Add to the current text where the step runs, or that it waits."""
        self._sink.step(self._done, self.total, f"{self._text}, {text}")

    def note(self, text: str) -> None:
        """Add a note that stays visible."""
        self._sink.note(text)

    def next(self, text: str) -> None:
        """Count a step as done, and show the next activity."""
        self._done += 1
        self.show(text)

    def finish(self, text: str) -> None:
        """Count all steps as done."""
        self._done = self.total
        self.show(text)
