"""`infaas lag`: how far the consumers of each topic are behind and how they get on, as the recorder last wrote it."""

import asyncio
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from infaas.cli.connect import DEFAULT_HOME, Home, Json, with_database
from infaas.cli.output import out, show, show_json, table
from schemas.rows.samples import AlarmKind, GroupHealth, LagSample, TopicAlarm
from store.pool import Pool
from store.samples import latest_lag, present_s, reading_error, topic_alarms

_EVERY_S: Final = 1.0
_STALE_S: Final = 10.0
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


class _Report(msgspec.Struct, kw_only=True):
    """What `infaas lag` shows, and `--json` prints."""

    alarms: list[str]
    """Reasons why what follows is not the present, and what is wrong with topics; empty while all is well."""
    lag: list[LagSample]


def lag(
    home: Home = DEFAULT_HOME,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second until Ctrl-C.")] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="One row a partition instead of a topic.")] = False,
    as_json: Json = False,
) -> None:
    """Show consumer lag in records and in seconds, and its health, as last recorded. Unknown is shown as ?, never 0."""
    if watch:
        return with_database(home, lambda pool: _watch(pool, partitions=partitions))
    report, now = with_database(home, _read)
    return show_json(report) if as_json else show(_page(report, now, partitions=partitions))


async def _watch(pool: Pool, *, partitions: bool) -> None:
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(_page(*await _read(pool), partitions=partitions), refresh=True)
            await asyncio.sleep(_EVERY_S)  # the recorder's own rhythm


async def _read(pool: Pool) -> tuple[_Report, datetime]:
    """What was recorded, and the present: the database's, since the clock of this machine may be wrong."""
    samples, error = await latest_lag(pool), await reading_error(pool)
    now = datetime.fromtimestamp(await present_s(pool), UTC)
    alarms = [*_alarms(samples, error, now), *map(_said, await topic_alarms(pool))]
    return _Report(alarms=alarms, lag=samples), now


def _alarms(samples: list[LagSample], error: str, now: datetime) -> list[str]:
    """Say what is wrong with the samples; those of one reading carry the same time."""
    if error:
        return [f"lag cannot be read, and the scale is held: {error}"]
    if samples and (age_s := (now - samples[0].at).total_seconds()) > _STALE_S:
        return [f"nobody has recorded for {age_s:.0f} s: does an autoscaler run?"]
    return []


def _said(alarm: TopicAlarm) -> str:
    if alarm.kind is AlarmKind.LOST:
        return f"{alarm.topic} lost {alarm.amount:,} records before they were done, the last at {alarm.at:%F %T %Z}"
    return f"{alarm.topic} takes {alarm.amount / 1e9:.1f} GB: is it being worked off?"


def _page(report: _Report, now: datetime, *, partitions: bool) -> RenderableType:
    number = "partition>" if partitions else "partitions>"
    table_rows: list[tuple[object, ...]] = []
    for (group, topic), found in groupby(report.lag, key=lambda s: (s.consumer_group, s.topic)):
        rows = list(found)
        for name, part in [(str(s.partition), [s]) for s in rows] if partitions else [(str(len(rows)), rows)]:
            table_rows.append((topic, group, name, _lag(part), _lag_s(part), _health(part), _age(part[0].at, now)))
    columns = ("topic", "group", number, "lag>", "lag s>", "health", "recorded")
    # The group of a topic is named after it.
    made = table(columns, table_rows, spare=("group", "recorded", *(() if partitions else (number,))))
    return Group(*(f"[bold red]alarm:[/] {escape(alarm)}" for alarm in report.alarms), made)


def _lag(samples: list[LagSample]) -> str:
    known = [s.lag for s in samples if s.lag is not None]
    return f"{sum(known):,}" if len(known) == len(samples) else "?"


def _lag_s(samples: list[LagSample]) -> str:
    known = [s.lag_s for s in samples if s.lag_s is not None]
    return f"{max(known):.3f}" if len(known) == len(samples) else "?"


def _health(samples: list[LagSample]) -> Text:
    """Health of the partition that is worst off."""
    worst = max((s.health for s in samples), key=_SEVERITY.index)
    return Text(worst, _COLOURS[worst])


def _age(at: datetime, now: datetime) -> Text:
    age_s = (now - at).total_seconds()
    return Text(f"{age_s:.0f} s ago", "red" if age_s > _STALE_S else "")
