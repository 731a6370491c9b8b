"""`infaas register`: from a model file, or the zoo, to variants that can be chosen, with a progress bar."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from msgspec.structs import replace
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from broker.settings import KafkaSettings
from infaas.cli.access import OwnerFlag, PrivateFlag, ShareFlag, declared_access
from infaas.cli.building import (
    BuildChoice,
    IfNoWorker,
    IfNoWorkerFlag,
    LocalFlag,
    artifact_store,
    chosen_steps,
)
from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, asked_by, find_database, find_kafka
from infaas.cli.output import err, show, show_json, table
from infaas.cli.processing import ImageFlag, ProcessingFlag, TokenizerFlag, TopFlag, declared_processing
from infaas.optional_zoo import require_zoo
from registry.artifacts import ArtifactStore
from registry.dry_run import dry_run as explain_registration
from registry.importers.imported import ImportedModel, completed, name_of
from registry.importers.importing import ImportKind, ImportModel, kind_of
from registry.pipeline.isolation import run_step
from registry.pipeline.verification import MOST_ACCURACY_LOST
from registry.plan import RecipeVerdict
from registry.quality import CHOICES
from registry.register import register as register_model
from registry.register import step_count
from registry.registration import Registration
from registry.step_runner import StepRunner
from runtimes.processing.classes import read_class_names
from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, PARTITIONS, THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import Variant, VariantState
from store.audit import audited
from store.pool import Pool, open_pool
from store.registry import list_profiles

AGAIN: Final = "`infaas register ... --again` measures anew."
_USUAL: Final = BuildChoice()
WhatArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH", help="A model file, or a folder of Hugging Face or Triton; with --zoo, tasks of it."
    ),
]
TaskFlag = Annotated[str | None, typer.Option(help="Task of the model, created with its signature on first use.")]
HardwareFlag = Annotated[
    list[Hardware] | None,
    typer.Option("--hardware", help="Hardware to make variants for and measure them on; repeatable. Default: cpu."),
]
CoresFlag = Annotated[
    list[int] | None,
    typer.Option(min=2, help="Make variants for so many CPU cores, too, where that is faster; repeatable, e.g. 2."),
]
AccuracyLossFlag = Annotated[
    float, typer.Option(min=0, max=1, help="Most accuracy, of 1, that a variant may lose to the model as registered.")
]
ZooFlag = Annotated[
    bool, typer.Option("--zoo", help="Register the models of infaas[zoo], of the tasks named or of all.")
]
AllVariantsFlag = Annotated[
    bool, typer.Option("--all-variants", help="With --zoo: make all that can be made here, not just what is worth it.")
]
BatchAxisFlag = Annotated[
    list[str] | None,
    typer.Option(help="Where the batch is, if not first: AXIS, or TENSOR=AXIS; repeatable. Default: by its name."),
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Only say which variants would be made here, and which not and why.")
]


HoldFlag = Annotated[
    bool, typer.Option("--hold", help="Leave a new version of a known model aside, for `infaas rollout`.")
]
ValidationFlag = Annotated[
    Path | None,
    typer.Option(exists=True, help="Labelled inputs: .npz (an array per input, `label`), .csv, a folder per class."),
]
CalibrationFlag = Annotated[Path | None, typer.Option(exists=True, help="Inputs without labels, in the same forms.")]
AccuracyFlag = Annotated[float | None, typer.Option(min=0, max=1, help="Accuracy, declared where no --validation is.")]
MeasureFlag = Annotated[
    str | None, typer.Option(help=f"What accuracy means of a new task: {CHOICES}. Default: guessed, if safe.")
]
ClassesFlag = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Names of the classes, a line each, in order of the scores."),
]
OutputFlag = Annotated[str | None, typer.Option(help="The output that is measured, if several may be meant.")]


class ProgressBar:
    """A progress bar that is a sink of progress; a context manager."""

    def __init__(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=err)
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print what stays."""
        self._progress.console.print(f"[dim]note:[/] {escape(text)}", highlight=False)

    def step(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` steps are finished."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=text)


def register(
    what: WhatArgument = None,
    architecture: Annotated[str | None, typer.Option("--name", help="Name of the model; default: the file's.")] = None,
    task: TaskFlag = None,
    validation: ValidationFlag = None,
    calibration: CalibrationFlag = None,
    accuracy: AccuracyFlag = None,
    measure: MeasureFlag = None,
    classes: ClassesFlag = None,
    output: OutputFlag = None,
    tokenizer: TokenizerFlag = None,
    image: ImageFlag = None,
    processing: ProcessingFlag = None,
    top: TopFlag = None,
    batch_axis: BatchAxisFlag = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Inputs that are computed together at most.")] = BATCH_LIMIT,
    partitions: Annotated[int, typer.Option(min=1, help="The most replicas of one variant.")] = PARTITIONS,
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch computes with.")] = THREADS,
    cores: CoresFlag = None,
    variant: Annotated[list[str] | None, typer.Option(help="e.g. onnx-int8dyn; repeatable. Default: all.")] = None,
    hardware: HardwareFlag = None,
    all_variants: AllVariantsFlag = False,
    max_accuracy_loss: AccuracyLossFlag = MOST_ACCURACY_LOST,
    again: Annotated[bool, typer.Option("--again", help="Measure what is registered once more.")] = False,
    hold: HoldFlag = False,
    owner: OwnerFlag = None,
    private: PrivateFlag = None,
    share_with: ShareFlag = None,
    dry_run: DryRunFlag = False,
    zoo: ZooFlag = False,
    local: LocalFlag = False,
    if_no_worker: IfNoWorkerFlag = IfNoWorker.HERE,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Register a model: check it, generate variants, verify and profile each. Runs again where it was cut off."""
    if dry_run:
        return _show_plan(what or [], tuple(variant or ()), validation, calibration, as_json=as_json)
    access = _checked_access(owner, private, share_with, zoo=zoo)
    kafka, postgres = find_kafka(home), find_database(home)
    named, home, devices = tuple(what or ()), home.absolute(), tuple(hardware or (Hardware.CPU,))
    choice = BuildChoice(local=local, if_no_worker=if_no_worker, again=again)
    if zoo:
        options: Any = {"threads": threads, "all_variants": all_variants, "choice": choice}
        made = asyncio.run(register_with_progress(kafka, postgres, home, named, devices, **options))
    else:
        if len(named) != 1 or task is None:
            raise OperatorError("say which model PATH for which --task, or --zoo")
        request = Registration(
            architecture=architecture or name_of(Path(named[0])), task=task, file=Path(named[0]),
            validation=validation, calibration=calibration, accuracy=accuracy,
            measure=measure, classes=read_class_names(classes) if classes else (), output=output,
            batch_axes=tuple(batch_axis or ()),
            processing=declared_processing(tokenizer, image, processing, top, None if processing else classes),
            max_batch=max_batch, partitions=partitions, threads=threads, cores=tuple(cores or ()),
            variants=tuple(variant or ()), max_accuracy_loss=max_accuracy_loss, again=again,
            hold=hold, asked_by=asked_by(), access=access,
        )  # fmt: skip
        made = asyncio.run(_register(request, devices, kafka, postgres, home, choice))
    return _show_made(made, as_json=as_json)


def _checked_access(owner: str | None, private: bool | None, share_with: str | None, *, zoo: bool) -> Access | None:
    """What the flags say of whose it is, of which the zoo is nobody's; it must be installed if it is meant."""
    access = declared_access(owner, private, share_with)
    if zoo:
        require_zoo()
        if access is not None:
            raise OperatorError("the zoo is everybody's: `infaas access set` changes that, model by model")
    return access


async def register_with_progress(
    kafka: KafkaSettings,
    postgres: str,
    home: Path,
    tasks: tuple[str, ...] = (),
    hardware: Sequence[Hardware] = (Hardware.CPU,),
    *,
    threads: int = THREADS,
    all_variants: bool = False,
    choice: BuildChoice = _USUAL,
) -> list[Variant]:
    """Register the zoo's models of `tasks`, of all if none is named, behind a progress bar; it must be installed."""
    from zoo.register import register_zoo

    async with open_pool(postgres) as pool:
        with ProgressBar() as bar:
            act = act_here(AuditVerb.REGISTER, ", ".join(tasks) or "zoo", again=choice.again)
            async with audited(pool, act), chosen_steps(hardware, pool, kafka, home, choice, bar.note) as steps:
                made = await register_zoo(
                    pool, kafka, artifact_store(home), bar, home / "cache", tasks=tasks, hardware=steps.hardware,
                    threads=threads, all_variants=all_variants, again=choice.again, runner=steps,
                )  # fmt: skip
        await _warn_of_noise(pool, made)
    return made


async def _register(
    request: Registration, devices: Sequence[Hardware], kafka: KafkaSettings, postgres: str, home: Path,
    choice: BuildChoice,
) -> list[Variant]:  # fmt: skip
    source, requests = request.file.absolute(), [replace(request, hardware=device) for device in devices]
    async with _imported(source) as found:
        notes: tuple[str, ...] = ()
        if found is not None:
            notes = (f"{source.name} is {found.kind}", *found.notes)
            requests = [completed(request, found) for request in requests]
        async with open_pool(postgres) as pool:
            return await _register_each(requests, pool, kafka, home, choice, notes)


@asynccontextmanager
async def _imported(path: Path) -> AsyncGenerator[ImportedModel | None]:
    """What is made of the thing at a path, while the context is open; None if that is a model file itself."""
    with TemporaryDirectory(prefix="infaas-import-") as folder:
        if await asyncio.to_thread(kind_of, path) is ImportKind.MODEL_FILE:
            yield None
        else:
            yield await run_step(ImportModel(path, Path(folder) / "model"), ImportedModel)


async def _register_each(
    requests: Sequence[Registration], pool: Pool, kafka: KafkaSettings, home: Path, choice: BuildChoice,
    notes: Sequence[str],
) -> list[Variant]:  # fmt: skip
    made: list[Variant] = []
    devices = [Hardware(request.hardware) for request in requests]
    with ProgressBar() as bar:
        for note in notes:
            bar.note(note)
        async with chosen_steps(devices, pool, kafka, home, choice, bar.note) as steps:
            requests = [request for request in requests if request.hardware in steps.hardware]
            for request in requests:
                await step_count(request, steps)  # says what is wrong with any before one is begun
            for request in requests:
                made = await _register_one(request, pool, kafka, artifact_store(home), bar, steps)
    await _warn_of_noise(pool, made)
    return made


async def _register_one(
    request: Registration,
    pool: Pool,
    kafka: KafkaSettings,
    artifacts: ArtifactStore,
    bar: ProgressBar,
    steps: StepRunner,
) -> list[Variant]:
    asked = {"task": request.task, "file": request.file.name, "hardware": request.hardware, "hold": request.hold}
    async with audited(pool, act_here(AuditVerb.REGISTER, request.architecture, **asked)):
        return await register_model(request, pool, kafka, artifacts, bar, steps)


async def _warn_of_noise(pool: Pool, made: Sequence[Variant]) -> None:
    profiles = await list_profiles(pool, names=[variant.name for variant in made])
    if noisy := [profile.variant for profile in profiles if profile.is_noisy]:
        err.print(
            f"[yellow]warning:[/] the machine was busy all the while {', '.join(noisy)} were measured, however often "
            f"that was tried: the latencies are uncertain, and choices rest on them. {AGAIN}",
            highlight=False,
        )


def _show_plan(
    files: Sequence[str], labels: tuple[str, ...], validation: Path | None, calibration: Path | None, *, as_json: bool
) -> None:
    if len(files) != 1:
        raise OperatorError("--dry-run is for one model FILE")
    request = Registration(
        architecture="", task="", file=Path(files[0]), validation=validation, calibration=calibration, variants=labels
    )
    verdicts = asyncio.run(_explain(request))
    if as_json:
        return show_json(verdicts)
    rows = [(v.label, v.hardware, v.runtime, v.precision, "yes" if v.applies else f"no: {v.reason}") for v in verdicts]
    return show(
        table(("variant", "hardware", "runtime", "precision", "would be made here"), rows, spare=("precision",))
    )


async def _explain(request: Registration) -> list[RecipeVerdict]:
    async with _imported(request.file.absolute()) as found:
        return await asyncio.to_thread(explain_registration, request if found is None else completed(request, found))


def _show_made(variants: list[Variant], *, as_json: bool) -> None:
    if as_json:
        show_json(variants)
        return
    ready = sum(v.state is VariantState.READY for v in variants)
    refused = [(v.name, v.reason) for v in variants if v.state is VariantState.REFUSED]
    err.print(f"{ready} variant(s) ready; `infaas variants` shows what was measured")
    if refused:
        show(table(("refused", "reason"), refused))
