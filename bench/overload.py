"""Load beyond what the machine can answer: how much is answered in time all the same, and how the rest is told.

The best rate is found first: the highest of a ladder at which 99 % are answered in time. Then half, once, twice and
five times as much is offered for a while each, with a deadline, and five times as much without. Last, one tenant floods
the system while another asks for a tenth of what it can do. One process asks, open loop; its cost is the machine's, and
stated beside what was spent on everything.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Final

import psutil
from rich.console import Console

from bench.core.figures import Figure, at_least, percentile
from bench.core.load import AnsweredQuery, OpenLoopLoad
from bench.core.system import SystemUnderTest
from schemas import headers as h
from schemas.oip import encode_request
from schemas.topics import task_topic
from zoo.samples import labelled

TASK: Final = "sentiment"
MIN_ACCURACY: Final = b"0.85"
"""Met by what takes some milliseconds only, so that the model is what is short and not who asks."""
LATENCY_MS: Final = 250.0
SECONDS: Final = 60.0
FACTORS: Final = (0.5, 1.0, 2.0, 5.0)
GOODPUT: Final = 0.9
"""Share of the best that must be answered in time under overload."""
_LADDER: Final = 1.25
_FIRST_RATE: Final = 40.0
_STEP_S: Final = 6.0
_IN_TIME: Final = 0.99
_WARM_UP: Final = (20.0, 5.0)


async def measure(system: SystemUnderTest, broker: str, console: Console, seconds: float = SECONDS) -> list[Figure]:
    """Measure answers in time at multiples of the best rate. The system must be up, with the task registered."""
    async with _load(system, deadline=True) as load:
        await load.run(*_WARM_UP)
        best = await _best_rate(load, console)
        figures = [Figure(name="overload: best rate with 99 % in time", broker=broker, value=best, unit="queries/s")]
        for factor in FACTORS:
            figures += await _offer(load, system, broker, console, best, factor, seconds)
    async with _load(system, deadline=False) as load:
        figures += await _offer(load, system, broker, console, best, FACTORS[-1], seconds / 3, deadline=False)
    return [*figures, await _fairness(system, broker, best, seconds / 2)]


def _load(system: SystemUnderTest, *, deadline: bool, tenant: str = "") -> OpenLoopLoad:
    inputs, _labels = labelled(TASK)
    query = encode_request({name: array[:1] for name, array in inputs.items()})
    headers = [(h.CONTENT_TYPE, query.content_type.encode()), (h.JSON_LENGTH, str(query.json_length).encode())]
    headers += [(h.MIN_ACCURACY, MIN_ACCURACY)]
    headers += [(h.LATENCY_MS, b"%d" % LATENCY_MS)] if deadline else []
    headers += [(h.TENANT, tenant.encode())] if tenant else []
    return OpenLoopLoad(system.kafka, task_topic(TASK), query.value, headers)


async def _best_rate(load: OpenLoopLoad, console: Console) -> float:
    """The highest rate of the ladder before the first at which too many are late or refused; twice is too many."""
    rate, best, misses = _FIRST_RATE, 0.0, 0
    while misses < 2:
        share = _in_time(await load.run(rate, _STEP_S)) / (rate * _STEP_S)
        console.log(f"{rate:.0f}/s: {share:.1%} in time")
        if share >= _IN_TIME:
            best, misses = rate, 0
        else:
            misses += 1
        rate *= _LADDER
    return best


async def _offer(
    load: OpenLoopLoad,
    system: SystemUnderTest,
    broker: str,
    console: Console,
    best: float,
    factor: float,
    seconds: float,
    *,
    deadline: bool = True,
) -> list[Figure]:
    rate = best * factor
    before, cpu_before = _memory_mib(system), _CpuReading()
    answers = await load.run(rate, seconds, patience_s=600.0)
    cpu = _CpuReading()
    goodput, refused = _in_time(answers) / seconds, _refused(answers)
    answered = [answer.total_ms for answer in answers if answer.status == "ok"]
    p99 = percentile(answered, 0.99) if answered else 0.0
    grown = max(_memory_mib(system) - before, 0.0)
    name = f"overload x{factor:g}" + ("" if deadline else " without deadlines")
    console.log(f"{name}: {goodput:.0f}/s in time, {refused:.1%} refused, p99 {p99:.0f} ms, memory +{grown:.0f} MiB")
    first = Figure(name=f"{name}: answered in time", broker=broker, value=goodput, unit="queries/s", baseline=rate)
    if factor > 1 and deadline:
        first = at_least(first.name, broker, goodput, "queries/s", best, GOODPUT)
    return [
        first,
        Figure(name=f"{name}: refused", broker=broker, value=100 * refused, unit="%"),
        Figure(name=f"{name}: answered, p99", broker=broker, value=p99, unit="ms"),
        Figure(name=f"{name}: memory gained by all processes", broker=broker, value=grown, unit="MiB"),
        Figure(
            name=f"{name}: CPU of who asks (baseline: of everything on the machine)", broker=broker, unit="cores",
            value=cpu.own_cores(cpu_before), baseline=cpu.all_cores(cpu_before),
        ),
    ]  # fmt: skip


async def _fairness(system: SystemUnderTest, broker: str, best: float, seconds: float) -> Figure:
    """Share in time of a tenant that asks for a tenth of the best rate while another asks for five times of it."""
    flood, modest = f"flood-{uuid.uuid4().hex[:4]}", f"modest-{uuid.uuid4().hex[:4]}"
    async with _load(system, deadline=True, tenant=flood) as many, _load(system, deadline=True, tenant=modest) as few:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(many.run(best * 5, seconds, patience_s=600.0), name="flood")
            asking = tasks.create_task(few.run(best / 10, seconds, patience_s=600.0), name="modest")
        share = _in_time(asking.result()) / max(best / 10 * seconds, 1.0)
    return Figure(
        name="overload x5 by one tenant: another's tenth answered in time", broker=broker, value=100 * share, unit="%",
        target=">= 90 %", passed=share >= 0.9,
    )  # fmt: skip


class _CpuReading:
    """Seconds of CPU that this process and the whole machine have used so far."""

    def __init__(self) -> None:
        whole = psutil.cpu_times()
        self._at = time.monotonic()
        self._own_s = time.process_time()
        self._all_s = sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)

    def own_cores(self, before: "_CpuReading") -> float:
        """Cores that this process used since the reading `before`."""
        return (self._own_s - before._own_s) / (self._at - before._at)

    def all_cores(self, before: "_CpuReading") -> float:
        """Cores that were in use since then, by whomever."""
        return (self._all_s - before._all_s) / (self._at - before._at)


def _in_time(answers: Sequence[AnsweredQuery]) -> int:
    return sum(answer.status == "ok" and answer.total_ms <= LATENCY_MS for answer in answers)


def _refused(answers: Sequence[AnsweredQuery]) -> float:
    return sum(answer.status != "ok" for answer in answers) / max(len(answers), 1)


def _memory_mib(system: SystemUnderTest) -> float:
    supervisor = psutil.Process(system.pid)
    return sum(p.memory_info().rss for p in (supervisor, *supervisor.children(recursive=True))) / 2**20
