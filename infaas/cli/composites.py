"""`infaas cascade` and `infaas chain`: composites, several variants that answer as one."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from admin import registrations
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_database, find_kafka
from infaas.cli.output import ProgressBar, err, ms, show, show_json, table
from infaas.cli.register import IfNoWorkerFlag, LocalFlag, act_of_registration, services_of
from infaas.cli.registrations import Asked, register_anywhere
from infaas.cli.uploads import Uploader
from infaas.up.optional_zoo import zoo_files
from registry.builds.open_executor import BuildChoice, RegistryServices
from registry.composites.proposals import CascadeProposal, requests_for
from registry.registering import propose_cascades_of, register_cascades, register_one_chain
from registry.request import CascadeRequest, ChainRequest
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.registrations import CascadeToRegister, ChainToRegister, MissingWorkerPolicy, RegisteredVariant
from store.pool import open_pool

Labelled = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help=".npz: an array per input, and `label`. The zoo's tasks have one."),
]
Calibrating = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="The file that the variants were calibrated with, if there was one."
    ),
]


class LabelledData(NamedTuple):
    """Labelled file for measurements, and the file with which the stages were calibrated."""

    validation: Path
    calibration: Path | None


def cascade(
    task: Annotated[str, typer.Argument(help="e.g. sentiment")],
    first: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help="The cheap variant; it answers inputs with high confidence."),
    ] = None,
    then: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="The better variant; it answers the other inputs.")
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Find cascades that beat every single variant, and register them.")
    ] = False,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Minimum confidence to accept the first answer; repeatable.")
    ] = None,
    min_accuracy: Annotated[
        list[float] | None, typer.Option(help="Accuracy from which to derive a threshold; repeatable.")
    ] = None,
    validation: Labelled = None,
    calibration: Calibrating = None,
    name: Annotated[str | None, typer.Option(help="Name of the architecture; default: FIRST-or-THEN.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Output with the class scores, if there are several outputs.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(help="softmax, probability, or the output with the confidence. Default: guessed from the scores."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure registered variants again.")] = False,
    local: LocalFlag = False,
    if_no_worker: IfNoWorkerFlag = MissingWorkerPolicy.HERE,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Register a cascade: a cheap variant answers if it is confident, else a more accurate one.

    The cascade becomes an architecture of the task, with one variant for each threshold.
    """
    if find == (first is not None or then is not None) or (first is None) != (then is None):
        raise OperatorError("give two variants by --first and --then, or --find")
    data = _labelled_data(task, validation, calibration, home.absolute())
    request = CascadeRequest(
        task=task,
        first=first or "",
        then=then or "",
        validation=data.validation,
        calibration=data.calibration,
        name=name,
        thresholds=tuple(threshold or ()),
        min_accuracies=tuple(min_accuracy or ()),
        output=output,
        confidence=confidence,
        again=again,
    )
    choice = BuildChoice(local=local, if_no_worker=if_no_worker, again=again)
    here = partial(_register, home.absolute(), request, choice, quiet=as_json)
    made = register_anywhere(home, choice, here, partial(_ask_cascade, request, choice))
    _show_cascades(made, as_json=as_json)


def chain(
    name: Annotated[str, typer.Argument(help="Name of the task that the chain becomes.")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK TASK...", help="Tasks of the chain, in order.")],
    feed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK.INPUT=OUTPUT", help="Output that feeds an input, if their names differ; repeatable."
        ),
    ] = None,
    through: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT,VARIANT...",
            help="One variant for each task; repeatable. Default: combinations of cheapest and most accurate.",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help=".npz: an array per input of the first task, `label` of the last."
        ),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Declared; default without --validation: product of the stages' accuracies."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Output of the last task with the class scores, if it has several outputs.")
    ] = None,
    hardware: Annotated[Hardware, typer.Option(help="Hardware of the chain.")] = Hardware.CPU,
    again: Annotated[bool, typer.Option("--again", help="Measure registered variants again.")] = False,
    local: LocalFlag = False,
    if_no_worker: IfNoWorkerFlag = MissingWorkerPolicy.HERE,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Declare a chain: the outputs of each task are the inputs of the next, with one deadline and one accuracy."""
    request = ChainRequest(
        name=name,
        tasks=tuple(tasks),
        feeds=parse_feeds(feed or ()),
        through=tuple(tuple(one.split(",")) for one in through or ()),
        validation=validation,
        accuracy=accuracy,
        output=output,
        hardware=hardware,
        again=again,
    )
    choice = BuildChoice(local=local, if_no_worker=if_no_worker, again=again)
    here = partial(_register, home.absolute(), request, choice)
    made = register_anywhere(home, choice, here, partial(_ask_chain, request, choice))
    if as_json:
        return show_json([{"variant": one.variant, "profile": one.profile} for one in made])
    shown = [(one.variant, one.profile) for one in made if one.profile is not None]
    rows = [(v.name, f"{p.accuracy:.2%} {p.accuracy_source}", ms(p.latency[0].typical_s)) for v, p in shown]
    show(table(("variant", "accuracy>", "latency b1>"), rows))
    if validation is None and accuracy is None:
        err.print("the accuracy is the product of the stages' accuracies; give labels by --validation to measure it")
    return None


def parse_feeds(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parse texts of the form `TASK.INPUT=OUTPUT`; returns the outputs by task and input.

    Raises:
        OperatorError: a text has another form.
    """
    feeds: dict[str, dict[str, str]] = {}
    for text in texts:
        into, equals, output = text.partition("=")
        task, dot, name = into.partition(".")
        if not (equals and dot and task and name and output):
            raise OperatorError(f"--feed {text}: write TASK.INPUT=OUTPUT, e.g. mnist.input=scaled")
        feeds.setdefault(task, {})[name] = output
    return feeds


async def _ask_chain(request: ChainRequest, choice: BuildChoice, uploader: Uploader) -> Asked:
    return registrations.chain, ChainToRegister(
        name=request.name, tasks=request.tasks, feeds={task: {**fed} for task, fed in request.feeds.items()},
        through=request.through, validation=await uploader.give(request.validation), accuracy=request.accuracy,
        output=request.output, hardware=Hardware(request.hardware), again=request.again,
        if_no_worker=choice.if_no_worker,
    )  # fmt: skip


async def _ask_cascade(request: CascadeRequest, choice: BuildChoice, uploader: Uploader) -> Asked:
    return registrations.cascade, CascadeToRegister(
        task=request.task, first=request.first or None, then=request.then or None,
        validation=await uploader.give_one(request.validation),
        calibration=await uploader.give(request.calibration), name=request.name, thresholds=request.thresholds,
        min_accuracies=request.min_accuracies, output=request.output, confidence=request.confidence,
        again=request.again, if_no_worker=choice.if_no_worker,
    )  # fmt: skip


async def _register(
    home: Path, request: CascadeRequest | ChainRequest, choice: BuildChoice, *, quiet: bool = True
) -> list[RegisteredVariant]:
    """Register in this process. For a cascade without stages, search for cascades and register the ones found."""
    kafka, postgres = find_kafka(home), find_database(home)
    async with open_pool(postgres) as pool:
        services = services_of(pool, kafka, home)
        if isinstance(request, ChainRequest):
            with ProgressBar() as bar:
                return await register_one_chain(request, services, choice, bar, act_of_registration)
        requests = [request] if request.first else await _found(request, services, choice, quiet=quiet)
        with ProgressBar() as bar:
            return await register_cascades(requests, services, choice, bar, act_of_registration)


async def _found(
    request: CascadeRequest, services: RegistryServices, choice: BuildChoice, *, quiet: bool
) -> list[CascadeRequest]:
    data = request.validation, request.calibration
    with ProgressBar() as bar:
        proposals = await propose_cascades_of(request.task, *data, None, services, choice, bar)
    if not proposals:
        err.print(f"no cascade beats every single variant of {request.task}", highlight=False)
    elif not quiet:
        _show_proposals(proposals)
    return requests_for(request.task, proposals, *data, again=choice.again)


def _labelled_data(task: str, validation: Path | None, calibration: Path | None, home: Path) -> LabelledData:
    if validation is not None:
        return LabelledData(validation, calibration)
    files = zoo_files(task, home / "cache")
    if files is None:
        raise OperatorError(
            "give a labelled file by --validation: some of its rows calibrate the cascade, others measure its accuracy"
        )
    return LabelledData(*files)


def _show_proposals(proposals: Sequence[CascadeProposal]) -> None:
    rows = [
        (p.first, p.then, f"{p.point.threshold:g}", f"{p.point.escalated:.0%}", p.beats, f"{p.saving:.0%}")
        for p in proposals
    ]
    columns = ("first", "then", "threshold>", "escalated>", "as accurate as", "less time>")
    show(table(columns, rows, title="Cascades that beat every single variant at equal accuracy"))


def _show_cascades(made: Sequence[RegisteredVariant], *, as_json: bool) -> None:
    if as_json:
        return show_json([{"variant": m.variant, "calibrated": m.calibrated, "profile": m.profile} for m in made])
    columns = ("variant", "escalated>", "calibrated>", "accuracy>", "mean b1>", "promised b1>")
    return show(table(columns, [_cascade_row(one) for one in made], optional_columns=("promised b1>", "calibrated>")))


def _cascade_row(made: RegisteredVariant) -> tuple[object, ...]:
    profile, calibrated = made.profile, made.calibrated
    assert profile is not None, "every cascade is measured"
    assert calibrated is not None, "and calibrated"
    single = profile.latency[0]
    return (
        made.variant.name,
        f"{calibrated.escalated:.0%}",
        f"{calibrated.accuracy:.2%}",
        f"{profile.accuracy:.2%}",
        ms(single.typical_s),
        ms(single.promised_s),
    )
