"""`infaas lag`: consumer lag and health of each topic, from the latest samples of the recorder."""

import asyncio
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.control import asking, call
from infaas.cli.output import out, plain, show, show_json, table
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.lag import LAG, STALE_S, LagReport
from schemas.rows.samples import GroupHealth, LagSample

_EVERY_S: Final = 1.0
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
    report = call(home, LAG, Empty())
    return show_json(report) if as_json else show(_page(report, partitions=partitions))


async def _watch(home: Path, *, partitions: bool) -> None:
    async with asking(home) as ask:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(_page(await ask(LAG, Empty()), partitions=partitions), refresh=True)
                await asyncio.sleep(_EVERY_S)  # the interval of the recorder


def _page(report: LagReport, *, partitions: bool) -> RenderableType:
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
    made = table(columns, table_rows, spare=("group", "recorded", *(() if partitions else (number,))))
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
    return Text(f"{age_s:.0f} s ago", "red" if age_s > STALE_S else "")
