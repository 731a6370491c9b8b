"""`infaas cascade` and `infaas chain`: several variants that answer as one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from broker.settings import KafkaSettings
from infaas.cli.building import IfNoWorkerFlag, LocalFlag, artifact_store, services_of
from infaas.cli.connect import DEFAULT_HOME, URL_ENV, Home, Json, act_here, find_database, find_kafka, gateway_url
from infaas.cli.output import err, ms, show, show_json, table
from infaas.cli.progress_bar import ProgressBar
from infaas.optional_zoo import zoo_files
from registry.builds.chosen_steps import BuildChoice, chosen_steps
from registry.composites.cascades import CascadeRequest, MadeCascade, register_cascade
from registry.composites.chains import ChainRequest, register_chain
from registry.composites.proposals import CascadeProposal
from registry.composites.proposing import find_cascades, requests_for
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.registrations import IfNoWorker
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import Profile, Variant
from store.audit import audited
from store.pool import Pool, open_pool
from store.registry import get_variant, list_profiles

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
    """Files that measure, and the one that the stages were calibrated with."""

    validation: Path
    calibration: Path | None


def cascade(
    task: Annotated[str, typer.Argument(help="e.g. sentiment")],
    first: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="The cheap variant: it answers what it is sure of.")
    ] = None,
    then: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="The better variant: it answers the rest.")
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Find the cascades that beat every single variant, and register these.")
    ] = False,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Least confidence at which the first answer stands; repeatable.")
    ] = None,
    min_accuracy: Annotated[
        list[float] | None, typer.Option(help="Accuracy to find a threshold for; repeatable.")
    ] = None,
    validation: Labelled = None,
    calibration: Calibrating = None,
    name: Annotated[str | None, typer.Option(help="Name of the architecture; default: FIRST-or-THEN.")] = None,
    output: Annotated[
        str | None, typer.Option(help="The output with the classes' scores, if there are several.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(help="softmax, probability, or the output that is the confidence. Default: as the scores look."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure what is registered once more.")] = False,
    local: LocalFlag = False,
    if_no_worker: IfNoWorkerFlag = IfNoWorker.HERE,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Register a cascade: a cheap variant answers when it is sure, else a better one.

    It is one more architecture of its task, with a variant for each threshold.
    """
    if find == (first is not None or then is not None) or (first is None) != (then is None):
        raise OperatorError("name two variants by --first and --then, or have cascades found by --find")
    kafka, postgres, home = _system_here(home)
    data = _labelled_data(task, validation, calibration, home)
    choice = BuildChoice(local=local, if_no_worker=if_no_worker, again=again)
    if first is None or then is None:
        made = asyncio.run(_find(task, data, kafka, postgres, home, choice, quiet=as_json))
    else:
        request = CascadeRequest(
            task=task,
            first=first,
            then=then,
            validation=data.validation,
            calibration=data.calibration,
            name=name,
            thresholds=tuple(threshold or ()),
            min_accuracies=tuple(min_accuracy or ()),
            output=output,
            confidence=confidence,
            again=again,
        )
        made = asyncio.run(_register([request], kafka, postgres, home, choice))
    _show_cascades(made, as_json=as_json)


def chain(
    name: Annotated[str, typer.Argument(help="Task that the chain becomes.")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK TASK...", help="Tasks that its queries pass, in order.")],
    feed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK.INPUT=OUTPUT", help="What an input is fed with, where names do not say; repeatable."
        ),
    ] = None,
    through: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT,VARIANT...",
            help="One variant for each task; repeatable. Default: the cheapest and the most accurate, all combined.",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help=".npz: an array per input of the first task, `label` of the last."
        ),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Declared; default without --validation: the stages' product.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The last task's output with the classes' scores, if it has several.")
    ] = None,
    hardware: Annotated[Hardware, typer.Option(help="Device that it is measured on, and for.")] = Hardware.CPU,
    again: Annotated[bool, typer.Option("--again", help="Measure what is registered once more.")] = False,
    local: LocalFlag = False,
    if_no_worker: IfNoWorkerFlag = IfNoWorker.HERE,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Declare a chain: the outputs of each task are the inputs of the next, with one deadline and one accuracy."""
    kafka, postgres, home = _system_here(home)
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
    made = asyncio.run(_register_chain(request, kafka, postgres, home, choice))
    if as_json:
        return show_json([{"variant": variant, "profile": profile} for variant, profile in made])
    rows = [(v.name, f"{p.accuracy:.2%} {p.accuracy_source}", ms(p.latency[0].typical_s)) for v, p in made]
    show(table(("variant", "accuracy>", "latency b1>"), rows))
    if validation is None and accuracy is None:
        err.print("declared: the product of what the stages' accuracies are; give labels by --validation to measure it")
    return None


def _system_here(home: Path) -> tuple[KafkaSettings, str, Path]:
    """Kafka, Postgres and the home to work on; raises `OperatorError` if the environment names a gateway elsewhere."""
    if gateway_url():
        raise OperatorError(
            f"cascades and chains are registered where the system runs, not over the gateway of {URL_ENV}: unset it "
            "there"
        )
    return find_kafka(home), find_database(home), home.absolute()


def parse_feeds(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what `TASK.INPUT=OUTPUT` says, by task and input.

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


async def _register_chain(
    request: ChainRequest, kafka: KafkaSettings, postgres: str, home: Path, choice: BuildChoice
) -> list[tuple[Variant, Profile]]:
    async with open_pool(postgres) as pool:
        act, device = act_here(AuditVerb.REGISTER, request.name, chain=request.tasks), Hardware(request.hardware)
        with ProgressBar() as bar:
            async with (
                audited(pool, act),
                chosen_steps([device], services_of(pool, kafka, home), choice, bar.note) as steps,
            ):
                made = await register_chain(request, pool, kafka, artifact_store(home), bar, steps)
        profiles = {profile.variant: profile for profile in await list_profiles(pool, task=request.name)}
    return [(variant, profiles[variant.name]) for variant in made]


class _ShownCascade(NamedTuple):
    """A cascade with what was measured of it."""

    made: MadeCascade
    profile: Profile


async def _find(
    task: str, data: LabelledData, kafka: KafkaSettings, postgres: str, home: Path, choice: BuildChoice, *, quiet: bool
) -> list[_ShownCascade]:
    async with open_pool(postgres, max_size=2) as pool:
        with ProgressBar() as bar:
            async with chosen_steps([Hardware.CPU], services_of(pool, kafka, home), choice, bar.note) as steps:
                proposals = await find_cascades(task, *data, pool, artifact_store(home), bar, runner=steps)
    if not proposals:
        err.print(f"no cascade of the variants of {task} beats all of them", highlight=False)
        return []
    if not quiet:
        _show_proposals(proposals)
    return await _register(requests_for(task, proposals, *data, again=choice.again), kafka, postgres, home, choice)


async def _register(
    requests: Sequence[CascadeRequest], kafka: KafkaSettings, postgres: str, home: Path, choice: BuildChoice
) -> list[_ShownCascade]:
    async with open_pool(postgres) as pool:
        made: list[MadeCascade] = []
        with ProgressBar() as bar:
            for request in requests:
                stages = {"task": request.task, "first": request.first, "then": request.then}
                act = act_here(AuditVerb.REGISTER, request.name or "", cascade=stages)
                devices = await _hardware_of(pool, request.first)
                async with (
                    audited(pool, act),
                    chosen_steps(devices, services_of(pool, kafka, home), choice, bar.note) as steps,
                ):
                    made += await register_cascade(request, pool, kafka, artifact_store(home), bar, steps)
        return await _with_profiles(made, pool)


async def _hardware_of(pool: Pool, name: str) -> list[Hardware]:
    """The hardware type of a variant; none, if there is no such variant, which is said later."""
    variant = await get_variant(pool, name)
    return [] if variant is None else [Hardware(variant.hardware)]


async def _with_profiles(made: Sequence[MadeCascade], pool: Pool) -> list[_ShownCascade]:
    profiles = await list_profiles(pool, names=[one.variant.name for one in made])
    by_name = {profile.variant: profile for profile in profiles}
    return [_ShownCascade(one, by_name[one.variant.name]) for one in made]


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


def _show_cascades(shown: Sequence[_ShownCascade], *, as_json: bool) -> None:
    if as_json:
        return show_json([{"variant": m.variant, "calibrated": m.calibrated, "profile": p} for m, p in shown])
    columns = ("variant", "escalated>", "calibrated>", "accuracy>", "mean b1>", "promised b1>")
    return show(table(columns, [_cascade_row(*one) for one in shown], spare=("promised b1>", "calibrated>")))


def _cascade_row(made: MadeCascade, profile: Profile) -> tuple[object, ...]:
    single, calibrated = profile.latency[0], made.calibrated
    return (
        made.variant.name,
        f"{calibrated.escalated:.0%}",
        f"{calibrated.accuracy:.2%}",
        f"{profile.accuracy:.2%}",
        ms(single.typical_s),
        ms(single.promised_s),
    )
