"""Background runs of the solver: a run takes up to a second, and no decision waits for it.

Each decision submits its snapshot. The latest one is solved in a thread, at most once per interval. Later decisions
follow the last targets while the load still fits them. After a failed run there are no targets, and the heuristic
decides alone.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Histogram

from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.plan import SolverTargets
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from process.outages import FailureLog

SOLVES: Final = Counter("infaas_autoscaler_solves", "Runs of the solver.", ["outcome"])
SECONDS: Final = Histogram("infaas_autoscaler_solve_seconds", "Seconds a run of the solver took.")


class BackgroundSolver:
    """Solver of one term of leadership; calls `on_targets` when the targets have changed."""

    def __init__(self, limits: ScalingLimits, interval_s: float, on_targets: Callable[[], None]) -> None:
        self._limits = limits
        self._interval_s = interval_s
        self._on_targets = on_targets
        self._latest: tuple[VariantRanking, ClusterSnapshot] | None = None
        self._submitted = asyncio.Event()
        self._failures = FailureLog("solving for the optimal scale", "the heuristic is used")
        self.targets: SolverTargets | None = None
        """Targets of the last run; None before the first and after a failed one."""

    def submit(self, ranking: VariantRanking, snapshot: ClusterSnapshot) -> None:
        """Replace the snapshot that the next run solves."""
        self._latest = ranking, snapshot
        self._submitted.set()

    async def run(self) -> None:
        """Solve until cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            if self._latest is not None:
                await self._solve(*self._latest)
            await asyncio.sleep(self._interval_s)

    async def _solve(self, ranking: VariantRanking, snapshot: ClusterSnapshot) -> None:
        before, began = self.targets, time.monotonic()
        try:
            self.targets = await asyncio.to_thread(_solve_targets, ranking, snapshot, self._limits)
        except Exception as error:  # noqa: BLE001 - a solver may raise any error, and scaling must go on
            self.targets = None
            self._failures.failed(error)
            SOLVES.labels("failed").inc()
        else:
            self._failures.recovered()
            SOLVES.labels("ok").inc()
        SECONDS.observe(time.monotonic() - began)
        if self.targets != before:
            self._on_targets()


def _solve_targets(ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits) -> SolverTargets | None:
    from autoscaler.decide.optimizer.milp import (
        solve_targets,  # imported late: a leader must decide before the solver's library is loaded, or without it
    )

    return solve_targets(ranking, snapshot, limits)
