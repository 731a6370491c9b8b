"""`infaas top`: an overview of a system that refreshes itself."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from admin.overview import Overview, OverviewRequest, TaskOverview, WorkerOverview, overview
from infaas.cli.admin_client import asking, call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.output import date_time, duration, ms, out, plain, show, show_json, table
from schemas.hardware import usd
from schemas.rows.cluster import DecisionRow

_EVERY_S: Final = 1.0
_SHOWN: Final = 3
"""Number of variants shown of a task."""


def top(
    home: Home = DEFAULT_HOME,
    seconds: Annotated[
        int, typer.Option("--seconds", "-s", min=5, max=3600, help="Seconds before now that are added up.")
    ] = 60,
    once: Annotated[bool, typer.Option("--once", help="Print it once, as is done without a terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Show the load of each task and its answers, the workers, and the last decisions, until Ctrl-C."""
    request = OverviewRequest(seconds=seconds)
    if as_json:
        return show_json(call(home, overview, request))
    if once or not out.is_terminal:
        return show(_page(call(home, overview, request)))
    return asyncio.run(_watch(home, request))


async def _watch(home: Path, request: OverviewRequest) -> None:
    async with asking(home) as ask:
        with Live(console=out, auto_refresh=False, screen=True) as live:
            while True:
                live.update(_page(await ask(overview, request)), refresh=True)
                await asyncio.sleep(_EVERY_S)  # the interval of the recorder


def _page(found: Overview) -> RenderableType:
    problems = [f"[bold red]problem:[/] {plain(problem)}" for problem in found.problems]
    paused = ["[bold yellow]scaling is paused[/]; `infaas scale resume` ends it"] if found.paused else []
    return Group(*problems, *paused, _tasks(found), "", _workers(found.workers), "", _decisions(found.decisions))


def _tasks(found: Overview) -> Table:
    columns = (
        "task",
        "queries/s>",
        "offline/s>",
        "in time>",
        "refused>",
        "late>",
        "failed>",
        "p50>",
        "p99>",
        "accuracy>",
        "cost/1000>",
        "waiting>",
        "oldest>",
        "answered by",
    )
    rows = [
        (
            one.task,
            f"{one.queries_per_s:.1f}",
            f"{one.offline_per_s:.1f}",
            _percent(one.attainment),
            f"{one.refused:,}",
            f"{one.late:,}",
            f"{one.failed:,}",
            ms(one.p50_s),
            ms(one.p99_s),
            _accuracies(one),
            _costs(one),
            f"{one.waiting:,}",
            "-" if one.waiting_s is None else duration(one.waiting_s),
            _answering(one),
        )
        for one in found.tasks
    ]
    optional = ("offline/s>", "cost/1000>", "failed>", "late>", "refused>", "oldest>", "p50>")
    return table(columns, rows, title=f"Tasks, last {found.seconds} s", optional_columns=optional)


def _accuracies(task: TaskOverview) -> str:
    """Return the accuracy that was given, and the one that was required."""
    given = "-" if task.given_accuracy is None else f"{task.given_accuracy:.3f}"
    return f"{given} of {task.wanted_accuracy:.3f}" if task.wanted_accuracy else given


def _costs(task: TaskOverview) -> str:
    """Return the cost that was given, and the largest one that was allowed."""
    given = "-" if task.given_cost is None else usd(task.given_cost)
    return given if task.wanted_cost is None else f"{given} of {usd(task.wanted_cost)}"


def _answering(task: TaskOverview) -> str:
    shown = [f"{one.variant} {one.share:.0%}" for one in task.variants[:_SHOWN]]
    more = len(task.variants) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])]) or "-"


def _workers(workers: list[WorkerOverview]) -> Table:
    columns = ("worker", "hardware", "state", "slots>", "busy>", "CPU>", "MiB>", "of MiB>", "serves")
    rows = [
        (
            one.worker,
            one.hardware,
            one.state,
            one.slots,
            _percent(one.busy),
            _percent(one.cpu_busy),
            "-" if one.memory_used is None else f"{one.memory_used >> 20:,}",
            f"{one.memory_total >> 20:,}",
            ", ".join(one.loaded) or "-",
        )
        for one in workers
    ]
    return table(columns, rows, title="Workers", optional_columns=("of MiB>", "MiB>", "hardware"))


def _decisions(decisions: list[DecisionRow]) -> Table:
    rows = [(date_time(one.at), one.action, one.subject, one.reason) for one in decisions]
    return table(("at", "action", "subject", "reason"), rows, title="Last decisions", optional_columns=("subject",))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
