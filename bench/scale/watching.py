"""Record of the autoscaler during a load, from Postgres, each second: running processes, and decisions."""

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
    """Number of workers and instances at one moment."""

    at_s: float
    """Seconds since the watch began."""
    workers: int
    instances: int
    """Number of serving instances."""


class ScaleDecision(msgspec.Struct, frozen=True):
    """Change of scale, read from the table of decisions."""

    at: datetime
    kind: str
    action: str
    variant: str
    worker: str


class ScaleLog:
    """Samples and decisions of one watch."""

    def __init__(self) -> None:
        self.began = time.time()
        self.seconds: list[ScaleSample] = []
        self.decisions: list[ScaleDecision] = []

    def changes_s(self) -> list[float]:
        """Return the times of changes, in seconds since the watch began."""
        return sorted({decision.at.timestamp() - self.began for decision in self.decisions})

    def worker_seconds(self, until_s: float) -> float:
        """Return the sum of all workers' seconds until `until_s`."""
        seen = [second.workers for second in self.seconds if 0 <= second.at_s <= until_s]
        return sum(seen) / max(len(seen), 1) * until_s


@asynccontextmanager
async def watching(dsn: str) -> AsyncGenerator[ScaleLog]:
    """Watch while the context is open; the decisions are read at its end."""
    log = ScaleLog()
    async with open_pool(dsn, max_size=1) as pool, asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look(pool, log), name="watch")
        yield log
        looking.cancel()
        began = datetime.fromtimestamp(log.began).astimezone()
        log.decisions = await pool.fetch(ScaleDecision, _DECISIONS, began)


async def _look(pool: Pool, log: ScaleLog) -> None:
    while True:
        try:
            workers = sum(worker.alive for worker in await list_workers(pool))
            instances = sum(row.state in SERVING for row in await list_instances(pool))
            log.seconds.append(ScaleSample(time.time() - log.began, workers, instances))
        except StoreUnavailable:  # one sample is missing in the plot
            pass
        await asyncio.sleep(_EVERY_S)
