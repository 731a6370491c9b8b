"""STATIC of INFaaS, also called Clipper+: the user picks a model, and its instances are loaded beforehand and stay.

Source: Romero et al., "INFaaS: Automated Model-less Inference Serving", USENIX ATC'21, section 6 (Clipper, TensorFlow
Serving and Triton as baselines): queries of a class go to one model, whose instances are fixed.

The paper does not say how its instances were counted. Here their number is computed from the whole trace, which no
operator knows: each variant gets the throughput for the peak, or the mean, of the queries that go to it, and workers
are filled up to 80 % of their slots. A query goes to the replica with the shortest queue.
"""

from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.query import Needs, Query
from simulator.baselines.base import UTILISATION, BaselineSystem
from simulator.baselines.priced_profile import PricedProfile, compute_limit_s
from simulator.baselines.replica import shortest
from simulator.cluster.query import SimulatedQuery
from simulator.system import SimulationContext
from simulator.trace import QueryKind

_WINDOW_S: Final = 10.0
"""Seconds over which a rate is averaged for the peak."""
_LEAST_SHARE: Final = 1e-3
"""Smallest part of a worker for which a replica is made, besides the first."""


class StaticSystem(BaselineSystem):
    """STATIC: one variant by class of queries, with a number of instances that fits the trace."""

    def __init__(self, context: SimulationContext, *, peak: bool = True) -> None:
        """Make the system; `peak`: size the fleet for the peak, not the mean rate."""
        super().__init__(context)
        self._peak = peak

    def dispatch(self, query: SimulatedQuery) -> None:
        """Send a query to the replica of its class's variant with the shortest queue."""
        replicas = self.fleet.replicas[self.profiles.meeting(query.query)[0].name]
        if replicas:
            self.send(query, shortest(replicas))
        else:
            self.hold(query)

    def tick(self) -> None:
        """Keep the fleet as it is."""

    def begin_fleet(self) -> None:
        """Load the variants that the trace's classes need, largest part of a worker first."""
        shares = {self.profiles.by_name[name]: share for name, share in self._worker_shares().items()}
        parts = [(part, profile) for profile, share in shares.items() for part in _parts(profile, share)]
        used = dict[str, float]()
        for part, profile in sorted(parts, key=lambda one: (-one[0], one[1].name)):
            worker = self._worker_for(profile, part, used)
            if worker is not None:
                used[worker] = used.get(worker, 0.0) + part
                self.fleet.host(profile, worker)

    def _worker_for(self, profile: PricedProfile, part: float, used: dict[str, float]) -> str | None:
        """Return the first worker that has room, a new one, or else the least used one on which the variant fits."""
        hardware = profile.hardware
        names = [name for name in self.fleet.workers(hardware.name) if self.fleet.fits(profile, name)]
        room = [name for name in names if used.get(name, 0.0) + part <= 1.0 + _LEAST_SHARE]
        if room:
            return room[0]
        if len(self.fleet.workers(hardware.name)) < hardware.maximum:
            return self.fleet.add_running(hardware.name)
        return min(names, key=lambda name: used.get(name, 0.0), default=None)

    def _worker_shares(self) -> dict[str, float]:
        """Return the workers that the load of each variant takes, by variant."""
        trace = self.scenario.trace
        limits_s, windows = dict[str, float](), defaultdict[str, list[NDArray[np.float64]]](list)
        count = int(trace.duration_s / _WINDOW_S) + 1
        for number, kind in enumerate(trace.kinds):
            query = query_of(kind)
            if not self.profiles.meeting(query):
                continue
            name = self.profiles.meeting(query)[0].name
            rows = (trace.time_s[trace.kind == number] / _WINDOW_S).astype(np.int64)
            windows[name].append(np.bincount(rows, minlength=count).astype(np.float64) * (kind.batch / _WINDOW_S))
            limits_s[name] = min(limits_s.get(name, np.inf), compute_limit_s(query))
        rates = {name: np.sum(parts, axis=0) for name, parts in windows.items()}
        return {
            name: self._worker_share(self.profiles.by_name[name], rate, limits_s[name]) for name, rate in rates.items()
        }

    def _worker_share(self, profile: PricedProfile, rates: NDArray[np.float64], limit_s: float) -> float:
        """Return the workers that a rate by window takes, in batches that end in time."""
        mean = float(rates.sum()) * _WINDOW_S / max(self.scenario.trace.duration_s, _WINDOW_S)
        rate = float(rates.max()) if self._peak else mean
        whole_worker = profile.throughput(profile.in_time_batch(limit_s)) / profile.share
        return rate / whole_worker / UTILISATION


def _parts(profile: PricedProfile, share: float) -> list[float]:
    """Split a number of workers into replicas that each take at most the slots which one instance can use."""
    whole = int(share / profile.share)
    rest = share - whole * profile.share
    return [profile.share] * whole + ([rest] if rest > _LEAST_SHARE or not whole else [])


def query_of(kind: QueryKind) -> Query:
    """Return a query of a kind."""
    needs = Needs(
        latency_ms=kind.latency_ms, min_accuracy=kind.min_accuracy, max_cost=kind.max_cost, mode=kind.mode,
        target=kind.target,
    )  # fmt: skip
    return Query(
        id="", task=kind.task, reply_to="", sent_ms=0.0, needs=needs, batch=kind.batch, tenant=kind.tenant,
        deadline_ms=kind.latency_ms,
    )  # fmt: skip
