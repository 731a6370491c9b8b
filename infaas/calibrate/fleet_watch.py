"""Watch of the fleet during a run: workers, instances and price each half second, and the decisions of the autoscaler.

A worker is paid for from the wish for it to its end, as in a simulation.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from admin import scaling
from admin.api import Empty
from infaas.cli.admin_client import AdminClient
from schemas.errors import InfaasError
from schemas.rows.cluster import ClusterRows, DecisionKind, DecisionRow
from schemas.status import SERVING
from simulator.history import FleetSample
from simulator.simulation import ScaleChange

_EVERY_S = 0.5
_MOST = 10_000


class FleetWatch:
    """Samples and changes of one run; times are seconds of its trace."""

    def __init__(self, prices: dict[str, float]) -> None:
        self._prices = prices
        """USD per hour of a worker, by hardware."""
        self.samples: list[FleetSample] = []
        self.changes: tuple[ScaleChange, ...] = ()

    def add(self, rows: ClusterRows, at_s: float) -> None:
        """Add a sample of the fleet."""
        workers = alive_workers(rows)
        paid = {row.hardware: max(row.count, workers[row.hardware]) for row in rows.wanted}
        self.samples.append(
            FleetSample(
                at_s=at_s,
                workers=dict(workers),
                instances=serving_instances(rows),
                busy={},
                waiting=0,
                usd_per_hour=sum(self._prices.get(name, 0.0) * count for name, count in ({**workers} | paid).items()),
            )
        )

    def usd(self, until_s: float) -> float:
        """Return the price of the fleet from 0 to `until_s`."""
        seen = [sample.usd_per_hour for sample in self.samples if sample.at_s <= until_s]
        return sum(seen) / max(len(seen), 1) * until_s / 3600


def alive_workers(rows: ClusterRows) -> Counter[str]:
    """Return the number of living workers by hardware."""
    return Counter(worker.hardware for worker in rows.workers if worker.alive)


def serving_instances(rows: ClusterRows) -> dict[str, int]:
    """Return the number of serving instances by variant."""
    return dict(Counter(row.variant for row in rows.instances if row.state in SERVING))


@asynccontextmanager
async def watching(ask: AdminClient, prices: dict[str, float], began_s: float) -> AsyncGenerator[FleetWatch]:
    """Watch while the context is open; the decisions are read at its end. The trace begins at `began_s`."""
    watch, began = FleetWatch(prices), datetime.now(UTC)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look(ask, watch, began_s), name="watch the fleet")
        yield watch
        looking.cancel()
    rows = await ask(scaling.history, scaling.DecisionsRequest(latest=_MOST))
    watch.changes = tuple(_change(row, began) for row in rows if row.at >= began and _is_counted(row))


async def _look(ask: AdminClient, watch: FleetWatch, began_s: float) -> None:
    while True:
        with suppress(InfaasError):  # a sample is missing
            watch.add(await ask(scaling.status, Empty()), time.monotonic() - began_s)
        await asyncio.sleep(_EVERY_S)


def _is_counted(row: DecisionRow) -> bool:
    """Return true for the changes that a simulation counts: a drain once, when it is carried out."""
    is_drain_of_plan = row.action == "drain" and bool(row.policy)
    return row.kind is not DecisionKind.CONTROL and not is_drain_of_plan and not row.action.endswith("failed")


def _change(row: DecisionRow, began: datetime) -> ScaleChange:
    return ScaleChange(
        at_s=(row.at - began).total_seconds(),
        action=row.action,
        name=row.variant or row.hardware,
        worker=str(row.inputs["count"]) if row.action == "want" else row.worker,
        reason=row.reason,
    )
