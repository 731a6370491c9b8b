"""Has the solver work beside the decisions: it takes up to a second, which no decision should wait for.

It is given each situation as it is decided upon, and solves the latest one every few seconds, in a thread. Decisions
follow its last answer as far as the load still fits on it. Where it fails there is no answer, and they do without.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Histogram

from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.plan import SolverTargets
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.failure_log import FailureLog

SOLVES: Final = Counter("infaas_autoscaler_solves", "Runs of the solver.", ["outcome"])
SECONDS: Final = Histogram("infaas_autoscaler_solve_seconds", "Seconds a run of the solver took.")


class BackgroundSolver:
    """Of one term of lead; `advised` is called when there is a new answer."""

    def __init__(self, limits: ScalingLimits, interval_s: float, advised: Callable[[], None]) -> None:
        self._limits = limits
        self._every_s = interval_s
        self._advised = advised
        self._latest: tuple[VariantRanking, ClusterSnapshot] | None = None
        self._news = asyncio.Event()
        self._outage = FailureLog("solving for the best scale", "the heuristic decides")
        self.targets: SolverTargets | None = None
        """The last answer; None before the first and after a failure."""

    def consider(self, ranking: VariantRanking, situation: ClusterSnapshot) -> None:
        """The situation as it is now."""
        self._latest = ranking, situation
        self._news.set()

    async def run(self) -> None:
        """Solve until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._latest is not None:
                await self._solve(*self._latest)
            await asyncio.sleep(self._every_s)

    async def _solve(self, ranking: VariantRanking, situation: ClusterSnapshot) -> None:
        before, began = self.targets, time.monotonic()
        try:
            self.targets = await asyncio.to_thread(_aim, ranking, situation, self._limits)
        except Exception as error:  # noqa: BLE001 - whatever a solver raises: the scale must go on without it
            self.targets = None
            self._outage.failed(error)
            SOLVES.labels("failed").inc()
        else:
            self._outage.recovered()
            SOLVES.labels("ok").inc()
        SECONDS.observe(time.monotonic() - began)
        if self.targets != before:
            self._advised()


def _aim(ranking: VariantRanking, situation: ClusterSnapshot, limits: ScalingLimits) -> SolverTargets | None:
    from autoscaler.decide.optimizer.milp import (
        aim,  # the solver's library: a leader decides before it is loaded, or without it
    )

    return aim(ranking, situation, limits)
