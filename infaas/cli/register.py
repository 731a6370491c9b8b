"""`infaas register`: registers a model file or the zoo, with a progress bar."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec.structs import replace

from admin import registrations
from broker.kafka.settings import KafkaSettings
from infaas.cli.access import OwnerFlag, PrivateFlag, ShareFlag, declared_access
from infaas.cli.connect import (
    DEFAULT_HOME,
    URL_ENV,
    Home,
    Json,
    act_here,
    asked_by,
    find_database,
    find_kafka,
    gateway_url,
    was_typed,
)
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import MEASURE_AGAIN, ProgressBar, err, show, show_json, table
from infaas.cli.processing import ImageFlag, PoolFlag, ProcessingFlag, TokenizerFlag, TopFlag, declared_processing
from infaas.cli.registrations import Asked, register_anywhere, show_registered
from infaas.cli.uploads import Uploader
from infaas.up.optional_zoo import require_zoo
from registry.artifact_settings import ENV, open_artifacts, open_exchange
from registry.builds.open_executor import BuildChoice, RegistryServices, open_executor
from registry.importers.imported import completed, name_of
from registry.importers.importing import ImportKind, kind_of
from registry.pipeline.source_format import files_beside
from registry.plan import RecipeVerdict
from registry.plan import dry_run as explain_registration
from registry.quality import CHOICES
from registry.registering import imported, register_path, with_profiles
from registry.request import MOST_ACCURACY_LOST, Registration
from runtimes.processing.steps import read_class_names
from schemas.access import Access
from schemas.defaults import BATCH_LIMIT, CONTEXT_TOKENS, PARTITIONS, SEQUENCES, THREADS
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.registrations import MissingWorkerPolicy, ModelToRegister, RegisteredVariant
from schemas.rows.audit import AuditAct, AuditVerb
from schemas.rows.catalog import Variant
from store.audit import audited
from store.pool import Pool, open_pool

USUAL: Final = BuildChoice()
HERE: Final = BuildChoice(local=True)
"""All steps run on this machine, several at once; a worker executes one at a time."""
_OF_ZOO: Final = (
    "what", "hardware", "threads", "all_variants", "again", "zoo", "local", "if_no_worker", "home", "as_json",
)  # fmt: skip
"""Parameters of `infaas register` that are allowed with `--zoo`."""
LocalFlag = Annotated[
    bool, typer.Option("--local", help="Make and measure variants on this machine instead of on workers.")
]
IfNoWorkerFlag = Annotated[
    MissingWorkerPolicy,
    typer.Option(help="If no worker has the --hardware: use this machine, wait, or skip."),
]


class RegisterFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of `infaas register`."""

    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH", help="A model file, or a folder of Hugging Face or Triton; with --zoo, tasks of it."
        ),
    ] = None
    architecture: Annotated[str | None, typer.Option("--name", help="Name of the model; default: the file's.")] = None
    task: Annotated[str | None, typer.Option(help="Task of the model; created with its signature on first use.")] = None
    validation: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="Labelled inputs: .npz (an array per input, `label`), .csv, .jsonl, a folder per class."
        ),
    ] = None
    calibration: Annotated[Path | None, typer.Option(exists=True, help="Inputs without labels, in the same forms.")] = (
        None
    )
    accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Declared accuracy, without --validation.")] = (
        None
    )
    measure: Annotated[
        str | None, typer.Option(help=f"Accuracy measure of a new task: {CHOICES}. Default: guessed, if unambiguous.")
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Class names, one per line, in the order of the scores."),
    ] = None
    output: Annotated[str | None, typer.Option(help="Output that is measured, if there are several.")] = None
    tokenizer: TokenizerFlag = None
    image: ImageFlag = None
    processing: ProcessingFlag = None
    top: TopFlag = None
    pool: PoolFlag = None
    batch_axis: Annotated[
        list[str] | None,
        typer.Option(
            help="Batch axis, if not the first: AXIS, or TENSOR=AXIS, repeatable; or none. Default: found by name, or "
            "by running the model."
        ),
    ] = None
    max_batch: Annotated[int, typer.Option(min=1, help="Maximum batch size.")] = BATCH_LIMIT
    sequences: Annotated[
        int, typer.Option(min=1, help="Maximum answers that an instance of a language model makes at once.")
    ] = SEQUENCES
    context: Annotated[
        int, typer.Option(min=16, help="Maximum tokens of a prompt and its answer, for language models.")
    ] = CONTEXT_TOKENS
    partitions: Annotated[
        int,
        typer.Option(
            min=1, help="Partitions of the topics of a new task, and maximum replicas on the embedded broker."
        ),
    ] = PARTITIONS
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute a batch.")] = THREADS
    cores: Annotated[
        list[int] | None,
        typer.Option(min=2, help="Also make variants for this number of CPU cores, if they are faster; repeatable."),
    ] = None
    variant: Annotated[list[str] | None, typer.Option(help="e.g. onnx-int8dyn; repeatable. Default: all.")] = None
    hardware: Annotated[
        list[Hardware] | None,
        typer.Option("--hardware", help="Hardware to make variants for and measure them on; repeatable. Default: cpu."),
    ] = None
    all_variants: Annotated[
        bool,
        typer.Option("--all-variants", help="With --zoo: make all possible variants, not only the useful ones."),
    ] = False
    max_accuracy_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum accuracy loss of a variant against the registered model, 0..1.")
    ] = MOST_ACCURACY_LOST
    again: Annotated[bool, typer.Option("--again", help="Measure registered variants again.")] = False
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Register a new version without serving it; see `infaas rollout`."),
    ] = False
    owner: OwnerFlag = None
    private: PrivateFlag = None
    share_with: ShareFlag = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan only, with reasons against variants."),
    ] = False
    zoo: Annotated[
        bool, typer.Option("--zoo", help="Register the zoo's models, of all tasks or of the named ones.")
    ] = False
    local: LocalFlag = False
    if_no_worker: IfNoWorkerFlag = MissingWorkerPolicy.HERE


@with_options
def register(
    options: RequestOptions[RegisterFlags],
    ctx: typer.Context,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Register a model: check it; generate, verify and profile variants. Run it again to resume."""
    flags = options.request()
    if flags.dry_run:
        return _show_plan(flags, as_json=as_json)
    access = _checked_access(flags)
    named, devices = tuple(flags.what or ()), tuple(flags.hardware or (Hardware.CPU,))
    choice = BuildChoice(local=flags.local, if_no_worker=flags.if_no_worker, again=flags.again)
    if flags.zoo:
        _check_zoo_flags(ctx)
        return _register_zoo(home, named, devices, flags, choice, as_json=as_json)
    if len(named) != 1 or flags.task is None:
        raise OperatorError("give a model PATH and its --task, or --zoo")
    file, classes = Path(named[0]).absolute(), flags.classes
    request = Registration(
        architecture=flags.architecture or name_of(file, flags.task),
        task=flags.task,
        file=file,
        validation=flags.validation,
        calibration=flags.calibration,
        accuracy=flags.accuracy,
        batch_axes=tuple(flags.batch_axis or ()),
        measure=flags.measure,
        classes=read_class_names(classes) if classes else (),
        output=flags.output,
        processing=declared_processing(
            flags.tokenizer,
            flags.image,
            flags.processing,
            flags.top,
            None if flags.processing else classes,
            flags.pool,
        ),
        max_batch=flags.max_batch,
        sequences=flags.sequences,
        context_tokens=flags.context,
        partitions=flags.partitions,
        threads=flags.threads,
        cores=tuple(flags.cores or ()),
        variants=tuple(flags.variant or ()),
        max_accuracy_loss=flags.max_accuracy_loss,
        again=flags.again,
        hold=flags.hold,
        asked_by=asked_by(),
        access=access,
    )
    made = register_anywhere(
        home,
        choice,
        lambda: _register(request, devices, choice, home.absolute()),
        lambda uploader: _over_gateway(request, devices, choice, uploader),
    )
    _warn_of_noise(made)
    return show_registered([one.variant for one in made], request.variants, as_json=as_json)


def _register_zoo(
    home: Path, tasks: tuple[str, ...], devices: Sequence[Hardware], flags: RegisterFlags, choice: BuildChoice,
    *, as_json: bool,
) -> None:  # fmt: skip
    if gateway_url():
        raise OperatorError(f"register the zoo on the system's machine, not over the gateway in {URL_ENV}")
    system = find_kafka(home), find_database(home), home.absolute()
    registering = register_with_progress(
        *system, tasks, devices, threads=flags.threads, all_variants=flags.all_variants, choice=choice
    )
    show_registered(asyncio.run(registering), as_json=as_json)


def _checked_access(flags: RegisterFlags) -> Access | None:
    """Return the access that the flags declare; check that the zoo is installed, and has none, with `--zoo`."""
    owner, private, share_with = flags.owner, flags.private, flags.share_with
    afar = gateway_url() and owner is None and (private is not None or share_with is not None)
    access = declared_access("yours" if afar else owner, private, share_with)  # the gateway sets the owner
    if access is not None and owner is None:
        access = replace(access, owner=None)
    if flags.zoo:
        require_zoo()
        if access is not None:
            raise OperatorError("the zoo is registered as public: restrict its models by `infaas access set`")
    return access


def _check_zoo_flags(ctx: typer.Context) -> None:
    """Raise `OperatorError` for flags that describe a model: the zoo's models define these properties themselves."""
    flags = [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name not in _OF_ZOO and was_typed(ctx, parameter.name or "")
    ]
    if flags:
        raise OperatorError(f"{', '.join(flags)} cannot be used with --zoo: the zoo's models define it")


def services_of(pool: Pool, kafka: KafkaSettings, home: Path) -> RegistryServices:
    """Return the services of a registration in this process."""
    artifacts = os.environ.get(ENV, "")
    return RegistryServices(pool, kafka, open_artifacts(artifacts, home), open_exchange(artifacts, home))


async def register_with_progress(
    kafka: KafkaSettings,
    postgres: str,
    home: Path,
    tasks: tuple[str, ...] = (),
    hardware: Sequence[Hardware] = (Hardware.CPU,),
    *,
    threads: int = THREADS,
    all_variants: bool = False,
    choice: BuildChoice = USUAL,
) -> list[Variant]:
    """Register the zoo's models of `tasks` (empty: all) with a progress bar. The zoo must be installed."""
    from zoo.register import register_zoo

    async with open_pool(postgres) as pool:
        with ProgressBar() as bar:
            act = act_here(AuditVerb.REGISTER, ", ".join(tasks) or "zoo", again=choice.again)
            services = services_of(pool, kafka, home)
            async with audited(pool, act), open_executor(hardware, services, choice, bar.note) as steps:
                made = await register_zoo(
                    pool, kafka, services.artifacts, bar, home / "cache", tasks=tasks, hardware=steps.hardware,
                    threads=threads, all_variants=all_variants, again=choice.again, runner=steps,
                )  # fmt: skip
        _warn_of_noise(await with_profiles(pool, made))
    return made


async def _over_gateway(
    request: Registration, devices: Sequence[Hardware], choice: BuildChoice, uploader: Uploader
) -> Asked:
    """Upload the files of a request; returns the request for the gateway."""
    path = request.file
    is_model = await asyncio.to_thread(kind_of, path) is ImportKind.MODEL_FILE
    beside = await asyncio.to_thread(files_beside, path) if is_model or path.suffix == ".xml" else []
    return registrations.model, ModelToRegister(
        name=request.architecture,
        task=request.task,
        beside=tuple([await uploader.give_one(file) for file in beside]),
        file=await uploader.give_one(path),
        validation=await uploader.give(request.validation),
        calibration=await uploader.give(request.calibration),
        accuracy=request.accuracy,
        measure=request.measure,
        classes=request.classes,
        output=request.output,
        batch_axes=request.batch_axes,
        processing=await uploader.processing(request.processing),
        max_batch=request.max_batch,
        sequences=request.sequences,
        context_tokens=request.context_tokens,
        partitions=request.partitions,
        threads=request.threads,
        cores=request.cores,
        variants=request.variants,
        max_accuracy_loss=request.max_accuracy_loss,
        hardware=tuple(devices),
        again=request.again,
        hold=request.hold,
        access=request.access,
        if_no_worker=choice.if_no_worker,
    )


async def _register(
    request: Registration, devices: Sequence[Hardware], choice: BuildChoice, home: Path
) -> list[RegisteredVariant]:
    kafka = find_kafka(home)
    async with open_pool(find_database(home)) as pool:
        with ProgressBar() as bar:
            services = services_of(pool, kafka, home)
            return await register_path(request, devices, choice, services, bar, act_of_registration)


def act_of_registration(subject: str, **detail: object) -> AuditAct:
    """Return the audit entry of a registration by this command line."""
    return act_here(AuditVerb.REGISTER, subject, **detail)


def _warn_of_noise(made: Sequence[RegisteredVariant]) -> None:
    if noisy := [one.variant.name for one in made if one.profile is not None and one.profile.is_noisy]:
        err.print(
            f"[yellow]warning:[/] the machine was busy in all measurements of {', '.join(noisy)}: their latencies, on "
            f"which variants are chosen, are uncertain. {MEASURE_AGAIN}",
            highlight=False,
        )


def _show_plan(flags: RegisterFlags, *, as_json: bool) -> None:
    files = flags.what or []
    if len(files) != 1:
        raise OperatorError("--dry-run needs exactly one model FILE")
    request = Registration(
        architecture="", task="", file=Path(files[0]), validation=flags.validation, calibration=flags.calibration,
        variants=tuple(flags.variant or ()),
    )  # fmt: skip
    verdicts = asyncio.run(_explain(request))
    if as_json:
        return show_json(verdicts)
    rows = [(v.label, v.hardware, v.runtime, v.precision, "yes" if v.applies else f"no: {v.reason}") for v in verdicts]
    return show(
        table(("variant", "hardware", "runtime", "precision", "made here"), rows, optional_columns=("precision",))
    )


async def _explain(request: Registration) -> list[RecipeVerdict]:
    async with imported(request.file.absolute()) as found:
        return await asyncio.to_thread(explain_registration, request if found is None else completed(request, found))
