"""Health of a system as a gateway or Postgres reports it: `infaas lag`, and `infaas status` of a remote system."""

import asyncio
import time
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from admin import system
from admin.api import Empty
from infaas.cli.admin_client import asking, call
from infaas.cli.connect import DEFAULT_HOME, Home, Json, gateway_url
from infaas.cli.output import facts, out, plain, show, show_json, table
from process.gateway_access import without_user
from schemas.rows.samples import GroupHealth, LagSample

_EVERY_S: Final = 1.0
_CHECK_INTERVAL_S: Final = 0.5
_COLOURS: Final = {
    GroupHealth.UNKNOWN: "yellow",
    GroupHealth.OK: "green",
    GroupHealth.LAGGING: "yellow",
    GroupHealth.STALLED: "bold red",
    GroupHealth.STOPPED: "bold red",
    GroupHealth.REWOUND: "bold red",
    GroupHealth.LOST: "bold red",
}
_SEVERITY: Final = list(GroupHealth)


def lag(
    home: Home = DEFAULT_HOME,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="Rows by partition instead of topic.")] = False,
    as_json: Json = False,
) -> None:
    """Show the last recorded consumer lag in records and in seconds, and its health. An unknown lag is shown as ?."""
    if watch:
        return asyncio.run(_watch(home, partitions=partitions))
    report = call(home, system.lag, Empty())
    return show_json(report) if as_json else show(_page(report, partitions=partitions))


async def _watch(home: Path, *, partitions: bool) -> None:
    async with asking(home) as ask:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(_page(await ask(system.lag, Empty()), partitions=partitions), refresh=True)
                await asyncio.sleep(_EVERY_S)  # the interval of the recorder


def _page(report: system.LagReport, *, partitions: bool) -> RenderableType:
    number = "partition>" if partitions else "partitions>"
    table_rows: list[tuple[object, ...]] = []
    for (group, topic), found in groupby(report.lag, key=lambda s: (s.consumer_group, s.topic)):
        rows = list(found)
        for name, part in [(str(s.partition), [s]) for s in rows] if partitions else [(str(len(rows)), rows)]:
            table_rows.append(
                (topic, group, name, _lag(part), _lag_s(part), _health(part), _age(part[0].at, report.at))
            )
    columns = ("topic", "group", number, "lag>", "lag s>", "health", "recorded")
    # A topic's group is named after the topic.
    made = table(columns, table_rows, optional_columns=("group", "recorded", *(() if partitions else (number,))))
    return Group(*(f"[bold red]alarm:[/] {plain(alarm)}" for alarm in report.alarms), made)


def _lag(samples: list[LagSample]) -> str:
    known = [s.lag for s in samples if s.lag is not None]
    return f"{sum(known):,}" if len(known) == len(samples) else "?"


def _lag_s(samples: list[LagSample]) -> str:
    known = [s.lag_s for s in samples if s.lag_s is not None]
    return f"{max(known):.3f}" if len(known) == len(samples) else "?"


def _health(samples: list[LagSample]) -> Text:
    """Return the worst health of the partitions."""
    worst = max((s.health for s in samples), key=_SEVERITY.index)
    return Text(worst, _COLOURS[worst])


def _age(at: datetime, now: datetime) -> Text:
    age_s = (now - at).total_seconds()
    return Text(f"{age_s:.0f} s ago", "red" if age_s > system.STALE_S else "")


def show_remote_status(home: Path, until: float, *, as_json: bool) -> bool:
    """Print the status once there are no problems, at the latest at `until`; returns true if there are none."""
    report = asyncio.run(_report_when_well(home, until))
    show_json(report) if as_json else show(_facts(report))
    return not report.problems


async def _report_when_well(home: Path, until: float) -> system.SystemReport:
    async with asking(home) as ask:
        report = await ask(system.status, Empty())
        while report.problems and time.monotonic() < until:
            await asyncio.sleep(_CHECK_INTERVAL_S)  # polled: a gateway sends no events
            report = await ask(system.status, Empty())
        return report


def _facts(report: system.SystemReport) -> Table:
    instances = ", ".join(f"{count} {state}" for state, count in sorted(report.instances.items())) or "none"
    wanted = "" if report.workers_wanted is None else f", {report.workers_wanted} wanted"
    found = (
        ("gateway", f"{without_user(gateway_url())}, version {report.version}"),
        ("models", f"{report.tasks} tasks, {report.models} models, {report.variants} variants"),
        ("workers", f"{report.workers}{wanted}{', scaling is paused' if report.paused else ''}"),
        ("instances", instances),
        ("jobs", f"{report.jobs} not ended"),
        *(("problem", problem) for problem in report.problems),
    )
    return facts(found)
