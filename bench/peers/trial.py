"""Measurement of one server on one workload: closed loops, goodput, load beyond it, and CPU cost.

Goodput is the highest rate of a Poisson process at which 99 % of the queries are answered in time. A step may meet a
disturbance of the machine, so the lowest missed rate is tried twice, and the median of several rounds counts.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import psutil
from msgspec.structs import replace

from bench.core.bracket import LOWEST, find_goodput
from bench.core.programs import cpu_seconds
from bench.load.http_load import LoadReport, LoadShape
from bench.load.http_message import SampledAnswer
from bench.peers.workloads import Check, PeerWorkload

CLOSED: Final = (1, 16, 64)
"""Connections of the closed loops."""
CONNECTIONS: Final = 64
"""Initial connections of an open loop; it opens more if needed."""
IN_TIME: Final = 0.99
OVERLOAD: Final = 1.3
"""Rate of the load beyond the goodput, over the goodput."""
_FIRST: Final = 0.8
"""First rate of the search, over the rate of the closed loop with the most connections."""
_RECOVER: Final = LoadShape(seconds=1.0, connections=4, drain_s=10.0)
"""Short closed loop after each missed step, so that its backlog is gone before the next."""


class Load(Protocol):
    """Client of one server."""

    samples: list[SampledAnswer]

    async def run(self, shape: LoadShape) -> LoadReport:
        """Run a load. Returns its report."""
        ...


class Contestant(msgspec.Struct, frozen=True):
    """Running server, with its client."""

    name: str
    pid: int
    """Process id; all other processes of the server are its descendants."""
    load: Load
    check: Check


class Durations(msgspec.Struct, frozen=True):
    """Durations of the steps in seconds."""

    closed_s: float = 1.5
    step_s: float = 10.0
    overload_s: float = 10.0


class ClosedLoop(msgspec.Struct, frozen=True):
    """Result of a closed loop."""

    connections: int
    rate: float
    p50_ms: float
    p99_ms: float


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one server on one workload."""

    server: str
    workload: str
    settings: str
    closed: list[ClosedLoop]
    goodput: float
    """Queries per second."""
    goodput_p50_ms: float
    goodput_p99_ms: float
    cpu_ms: dict[str, float]
    """CPU milliseconds per query at the goodput, by kind of process of the server, including the broker."""
    client_cpu_ms: float
    overload_accepted: float
    """Queries per second that were not refused at 1.3 times the goodput, late ones included."""
    overload_in_time: float
    """Share of the accepted queries that were answered in time."""
    rounds: list[float] = []
    """Goodput of each round, if this is the median of several."""
    drift: float | None = None
    """Largest change of the machine's speed between the rounds, over the median; None if it was not measured."""
    repeated: int = 0
    """Rounds that were taken again because of a change of the machine's speed."""


def median_trial(rounds: Sequence[Trial]) -> Trial:
    """Return the trial of the median goodput (the lower one of two); all are of one server and workload."""
    if len(rounds) == 1:
        return rounds[0]
    ordered = sorted(rounds, key=lambda trial: trial.goodput)
    return replace(ordered[(len(ordered) - 1) // 2], rounds=[trial.goodput for trial in rounds])


class Step(msgspec.Struct, frozen=True):
    """A load's report, and the CPU seconds of the server during it, by kind of process."""

    report: LoadReport
    cpu_s: dict[str, float]


async def measure_trial(
    contestant: Contestant, workload: PeerWorkload, settings: str, durations: Durations, say: Callable[[str], None],
    near: float | None = None,
) -> Trial:  # fmt: skip
    """Measure one server that has answered before.

    Args:
        contestant: server with its client.
        workload: its queries.
        settings: description of the server's settings.
        durations: durations of the steps.
        say: reports the step.
        near: goodput of an earlier round, if there was one.

    Raises:
        RuntimeError: an answer is wrong.
    """
    closed: list[ClosedLoop] = []
    for connections in CLOSED:
        say(f"{connections} connections")
        seen = await contestant.load.run(LoadShape(seconds=durations.closed_s, connections=connections))
        contestant.check(contestant.load.samples)
        closed.append(ClosedLoop(connections, seen.answered / seen.elapsed_s, seen.p50_ms, seen.p99_ms))
    objective_ms = workload.objective_ms
    search = _Search(contestant, objective_ms, durations.step_s, say)
    rate, best = await search.find(near or max(_FIRST * closed[-1].rate, LOWEST), near=near is not None)
    say(f"{OVERLOAD * rate:.0f}/s, beyond")
    beyond = await _step(contestant, OVERLOAD * rate, objective_ms, durations.overload_s)
    accepted = beyond.report.sent - beyond.report.refused
    per_query = 1e3 / max(best.report.answered, 1)
    return Trial(
        server=contestant.name,
        workload=workload.name,
        settings=settings,
        closed=closed,
        goodput=rate,
        goodput_p50_ms=best.report.p50_ms,
        goodput_p99_ms=best.report.p99_ms,
        cpu_ms={kind: seconds * per_query for kind, seconds in best.cpu_s.items()},
        client_cpu_ms=best.report.cpu_s * per_query,
        overload_accepted=accepted / durations.overload_s,
        overload_in_time=beyond.report.in_time / max(accepted, 1),
    )


class _Search(NamedTuple):
    """Search for the goodput of a server."""

    contestant: Contestant
    objective_ms: float
    step_s: float
    say: Callable[[str], None]

    async def find(self, first: float, *, near: bool) -> tuple[float, Step]:
        """Find the highest sustained rate. Returns it, with its step."""
        sustained: list[Step] = []

        async def sustains(rate: float) -> bool:
            self.say(f"{rate:.0f}/s")
            step = await _step(self.contestant, rate, self.objective_ms, self.step_s)
            if step.report.share_in_time < IN_TIME:
                await self.contestant.load.run(_RECOVER)
                return False
            sustained.append(step)
            return True

        rate = await find_goodput(first, sustains, near=near)
        if not sustained:
            raise RuntimeError(f"{self.contestant.name} answers in time at no rate")
        return rate, sustained[-1]


async def _step(contestant: Contestant, rate: float, objective_ms: float, seconds: float) -> Step:
    shape = LoadShape(seconds=seconds, connections=CONNECTIONS, rate=rate, objective_ms=objective_ms)
    process = psutil.Process(contestant.pid)
    before = cpu_seconds(process)
    report = await contestant.load.run(shape)
    after = cpu_seconds(process)
    contestant.check(contestant.load.samples)
    return Step(report, {kind: seconds - before.get(kind, 0.0) for kind, seconds in after.items()})
