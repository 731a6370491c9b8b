"""`infaas lag`: how far the consumers of each topic are behind, as the recorder last wrote it to Postgres."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.table import Table

from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_database
from infaas.cli.output import out, show, show_json, table
from schemas.records import LagSample
from store.pool import open_pool
from store.samples import latest_lag

_EVERY_S: Final = 1.0
_STALE_S: Final = 10.0


def lag(
    home: Home = DEFAULT_HOME,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second until Ctrl-C.")] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="One row a partition instead of a topic.")] = False,
    as_json: Json = False,
) -> None:
    """Show consumer lag in records and in seconds, as last recorded. Unknown is shown as ?, never as 0."""
    dsn = find_database(home)
    if watch:
        return asyncio.run(_watch(dsn, partitions=partitions))
    samples = asyncio.run(_read(dsn))
    return show_json(samples) if as_json else show(_table(samples, partitions=partitions))


async def _read(dsn: str) -> list[LagSample]:
    async with open_pool(dsn, max_size=1) as pool:
        return await latest_lag(pool)


async def _watch(dsn: str, *, partitions: bool) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(_table(await latest_lag(pool), partitions=partitions), refresh=True)
                await asyncio.sleep(_EVERY_S)  # the recorder's own rhythm


def _table(samples: Iterable[LagSample], *, partitions: bool) -> Table:
    now = datetime.now(UTC)
    made = table(("group", "topic", "partition>" if partitions else "partitions>", "lag>", "lag s>", "recorded"), ())
    ordered = sorted(samples, key=lambda s: (s.consumer_group, s.topic, s.partition))
    for (group, topic), found in groupby(ordered, key=lambda s: (s.consumer_group, s.topic)):
        rows = list(found)
        for name, part in [(str(s.partition), [s]) for s in rows] if partitions else [(str(len(rows)), rows)]:
            made.add_row(group, topic, name, _lag(part), _lag_s(part), _age(min(s.at for s in part), now))
    return made


def _lag(samples: list[LagSample]) -> str:
    known = [s.lag for s in samples if s.lag is not None]
    return f"{sum(known):,}" if len(known) == len(samples) else "?"


def _lag_s(samples: list[LagSample]) -> str:
    known = [s.lag_s for s in samples if s.lag_s is not None]
    return f"{max(known):.3f}" if len(known) == len(samples) else "?"


def _age(at: datetime, now: datetime) -> str:
    age_s = (now - at).total_seconds()
    text = f"{age_s:.0f} s ago"
    return f"[red]{text}[/]" if age_s > _STALE_S else text
