"""`infaas demo`: start a whole system, query it with different needs, and show a table of the results."""

import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from infaas.cli.connect import Home, Json
from infaas.cli.demo_chat import answer_chat
from infaas.cli.output import err, show, show_json, table
from infaas.cli.register import HERE, register_with_progress
from infaas.cli.system import KafkaFlag, announce, fetching_jars
from infaas.up.optional_zoo import require_language_model, require_zoo
from infaas.up.options import UpOptions
from infaas.up.state import KafkaKind
from infaas.up.system import running_system
from schemas.hardware import usd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infaas.up.demo import CaseOutcome

_HOME: Final = Path(".infaas/demo")
_TERMINATED: Final = 128 + signal.SIGTERM


def demo(
    inputs: Annotated[int, typer.Option(min=1, help="Labelled inputs to query in each row.")] = 200,
    kafka: KafkaFlag = KafkaKind.AUTO,
    chat: Annotated[
        bool, typer.Option("--chat", help="End with an answer of a language model, which must be installed.")
    ] = False,
    home: Home = _HOME,
    as_json: Json = False,
) -> None:
    """Start everything, register the zoo, query it with different needs by HTTP and Kafka, show a table, stop.

    The exit code is 0 only if all queries were answered and all accuracies are compatible with the promised ones.
    """
    require_zoo()
    if chat:
        require_language_model()
    options = UpOptions(home=home.absolute(), kafka=kafka, gateway_port=0, kafka_port=0, metrics_port=0)
    try:
        outcomes = asyncio.run(_run(options, inputs, partial(_show, as_json=as_json), chat=chat))
    except asyncio.CancelledError:
        raise typer.Exit(_TERMINATED) from None
    if not all(outcome.kept for outcome in outcomes):
        raise typer.Exit(1)


def _show(outcomes: "Sequence[CaseOutcome]", *, as_json: bool) -> None:
    if as_json:
        show_json(outcomes)
    else:
        show(_table(outcomes))
        _print_failures(outcomes)


async def _run(
    options: UpOptions, count: int, show_outcomes: "Callable[[Sequence[CaseOutcome]], None]", *, chat: bool
) -> "list[CaseOutcome]":
    from infaas.up.demo import run_demo, show_first_answers

    running = asyncio.current_task()
    assert running is not None, "runs as a task"
    # Like SIGINT, SIGTERM cancels the task, so that everything stops in order.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with running_system(options, announce, fetching_jars) as system:
        announce("registering the zoo: generating, verifying and profiling each variant on this machine")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(show_first_answers(system, announce), name="first answers")
            await register_with_progress(system.kafka, system.postgres, options.home, threads=1, choice=HERE)
        announce(f"querying {count} labelled inputs for each row")
        outcomes = await run_demo(system, count)
        show_outcomes(outcomes)
        if chat:
            await answer_chat(system.kafka, system.postgres, system.gateway, options.home)
        return outcomes


def _table(outcomes: "Sequence[CaseOutcome]") -> Table:
    columns = (
        "task",
        "needs",
        "via",
        "chosen variants",
        "predicted>",
        "measured p50>",
        "accuracy>",
        "promised>",
        "cost/1000>",
        "answered>",
    )
    made = table(
        columns,
        [_row(outcome) for outcome in outcomes],
        title="Needs, chosen variants, promises and measurements",
        optional_columns=("predicted>", "cost/1000>", "promised>", "answered>", "via"),
    )
    made.caption = (
        "predicted: from the choice to the result; measured: from the client's call to its answer; "
        "accuracy: over the labelled inputs, against the promise in the answers"
    )
    return made


def _row(outcome: "CaseOutcome") -> tuple[str, ...]:
    chosen = [f"{name} {count / outcome.answered:.0%}" for name, count in outcome.variants.items()]
    more = [f"and {len(chosen) - 2} more"] if len(chosen) > 2 else []
    return (
        outcome.case.task,
        outcome.case.needs,
        outcome.case.via,
        "\n".join(chosen[:2] + more),
        f"{outcome.predicted_ms:.1f} ms",
        f"{outcome.measured_ms:.1f} ms",
        f"{outcome.accuracy:.1%}",
        f"{outcome.promised:.1%}",
        usd(outcome.cost),
        f"{outcome.answered}/{outcome.asked}" + ("" if outcome.kept else " !"),
    )


def _print_failures(outcomes: "Sequence[CaseOutcome]") -> None:
    for outcome in outcomes:
        where = f"{outcome.case.task} ({outcome.case.needs}, {outcome.case.via})"
        for reason, count in outcome.failures.items():
            err.print(f"[bold red]{where}[/]: {count} without an answer: {reason}", highlight=False)
        if not outcome.kept and not outcome.failures:
            err.print(
                f"[bold red]{where}[/]: accuracy {outcome.accuracy:.1%} is below the promised {outcome.promised:.1%}",
                highlight=False,
            )
