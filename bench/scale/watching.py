"""What the autoscaler did while a load ran, read from Postgres each second: who ran, and what was decided when."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec

from schemas.status import SERVING
from store.errors import StoreUnavailable
from store.placement import list_instances, list_workers
from store.pool import Pool, open_pool

_EVERY_S = 1.0
_DECISIONS = "SELECT at, kind, action, variant, worker FROM decisions WHERE at >= $1 ORDER BY at"


class ScaleSample(msgspec.Struct, frozen=True):
    """What ran at some moment, in seconds since the watch began."""

    at_s: float
    workers: int
    instances: int
    """That serve."""


class ScaleDecision(msgspec.Struct, frozen=True):
    """A change of scale."""

    at: datetime
    kind: str
    action: str
    variant: str
    worker: str


class ScaleLog:
    """What was seen."""

    def __init__(self) -> None:
        self.began = time.time()
        self.seconds: list[ScaleSample] = []
        self.decisions: list[ScaleDecision] = []

    def changes_s(self) -> list[float]:
        """When something was changed, in seconds since the watch began."""
        return sorted({decision.at.timestamp() - self.began for decision in self.decisions})

    def worker_seconds(self, until_s: float) -> float:
        """What the workers cost until then."""
        seen = [second.workers for second in self.seconds if 0 <= second.at_s <= until_s]
        return sum(seen) / max(len(seen), 1) * until_s


@asynccontextmanager
async def watching(dsn: str) -> AsyncGenerator[ScaleLog]:
    """Watch while the context is open; the decisions are read at its end."""
    watch = ScaleLog()
    async with open_pool(dsn, max_size=1) as pool, asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look(pool, watch), name="watch")
        yield watch
        looking.cancel()
        began = datetime.fromtimestamp(watch.began).astimezone()
        watch.decisions = await pool.fetch(ScaleDecision, _DECISIONS, began)


async def _look(pool: Pool, watch: ScaleLog) -> None:
    while True:
        try:
            workers = sum(worker.alive for worker in await list_workers(pool))
            instances = sum(row.state in SERVING for row in await list_instances(pool))
            watch.seconds.append(ScaleSample(time.time() - watch.began, workers, instances))
        except StoreUnavailable:  # a second less of the plot
            pass
        await asyncio.sleep(_EVERY_S)
