"""Load beyond what the machine can answer: how much is answered in time all the same, and how the rest is told.

By two doors: a plain Kafka producer, whose queries linger as long as those of kafka-clients 4 and librdkafka do unless
told otherwise, and HTTP. The best rate is found first: the highest of a ladder at which 99 % are answered in time. Then
half, once, twice and five times as much is offered for a while each, with a deadline, and at Kafka five times as much
without, and by a producer that makes a request of each query. Last, one tenant floods the system while another asks for
a tenth of what it can do. One process asks, open loop; its cost is the machine's, and stated beside what was spent on
everything.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import psutil
from rich.console import Console

from bench.core.figures import Figure, at_least, percentile
from bench.core.load import AnsweredQuery, OpenLoopLoad
from bench.core.system import SystemUnderTest
from bench.load_client.http_load import HttpLoad, LoadShape, compile_client
from bench.throughput.cost import infer_request
from schemas import headers as h
from schemas.oip import EncodedMessage, encode_request
from schemas.topics import task_topic
from zoo.samples import labelled

TASK: Final = "sentiment"
MIN_ACCURACY: Final = b"0.85"
"""Met by what takes some milliseconds only, so that the model is what is short and not who asks."""
LATENCY_MS: Final = 250.0
SECONDS: Final = 30.0
FACTORS: Final = (0.5, 1.0, 2.0, 5.0)
GOODPUT: Final = 0.9
"""Share of the best that must be answered in time under overload."""
LINGER_MS: Final = 5
"""What kafka-clients 4 and librdkafka have by default."""
_LADDER: Final = 1.25
_FIRST_RATE: Final = 40.0
_STEP_S: Final = 6.0
_IN_TIME: Final = 0.99
_WARM_UP: Final = (20.0, 5.0)
_PATIENCE_S: Final = 600.0
_CONNECTIONS: Final = 256


class Offered(NamedTuple):
    """What became of a load."""

    sent: int
    in_time: int
    refused: int
    p99_ms: float
    """Of those that were answered."""
    elapsed_s: float
    """From the first query to the last answer."""
    own_s: float
    """CPU time of who asked."""

    @property
    def answered(self) -> int:
        """Queries with a result."""
        return self.sent - self.refused


Ask: TypeAlias = Callable[[float, float], Awaitable[Offered]]
"""Asks so many queries a second for so many seconds."""


async def measure(system: SystemUnderTest, broker: str, console: Console, seconds: float = SECONDS) -> list[Figure]:
    """Measure answers in time at multiples of the best rate. The system must be up, with the task registered."""
    async with _load(system, deadline=True) as load:
        best, figures = await _by_door("overload", _asking(load), system, broker, console, seconds)
    async with _load(system, deadline=False) as load:
        figures.append(await _unhurried(_asking(load), broker, console, best, seconds / 3))
    async with _load(system, deadline=True, linger_ms=0) as load:
        name = f"overload x{FACTORS[-1]:g}, a request a query"
        figures += await _offer(name, _asking(load), system, broker, console, best, FACTORS[-1], seconds / 3)
    figures.append(await _fairness(system, broker, best, seconds / 2))
    with tempfile.TemporaryDirectory(prefix="infaas-client-") as folder:
        request = infer_request(
            TASK, _query(), **{h.MIN_ACCURACY: MIN_ACCURACY.decode(), h.LATENCY_MS: f"{LATENCY_MS:g}"}
        )
        port = urlsplit(system.gateway).port or 0
        http = _asking_http(HttpLoad(await compile_client(Path(folder)), port, [request]))
        return figures + (await _by_door("overload by HTTP", http, system, broker, console, seconds))[1]


async def _by_door(
    name: str, ask: Ask, system: SystemUnderTest, broker: str, console: Console, seconds: float
) -> tuple[float, list[Figure]]:
    """Find the best rate, and offer multiples of it."""
    await ask(*_WARM_UP)
    best = await _best_rate(ask, console)
    figures = [Figure(name=f"{name}: best rate with 99 % in time", broker=broker, value=best, unit="queries/s")]
    for factor in FACTORS:
        lasts_s = seconds if factor == FACTORS[-1] else seconds / 3
        figures += await _offer(f"{name} x{factor:g}", ask, system, broker, console, best, factor, lasts_s)
    return best, figures


def _query() -> EncodedMessage:
    inputs, _labels = labelled(TASK)
    return encode_request({name: array[:1] for name, array in inputs.items()})


def _load(system: SystemUnderTest, *, deadline: bool, tenant: str = "", linger_ms: int = LINGER_MS) -> OpenLoopLoad:
    query = _query()
    headers = [(h.CONTENT_TYPE, query.content_type.encode()), (h.JSON_LENGTH, str(query.json_length).encode())]
    headers += [(h.MIN_ACCURACY, MIN_ACCURACY)]
    headers += [(h.LATENCY_MS, b"%d" % LATENCY_MS)] if deadline else []
    headers += [(h.TENANT, tenant.encode())] if tenant else []
    return OpenLoopLoad(system.kafka, task_topic(TASK), query.value, headers, linger_ms=linger_ms)


def _asking(load: OpenLoopLoad) -> Ask:
    """Ask as a plain Kafka program."""

    async def ask(rate: float, seconds: float) -> Offered:
        began_s, own_s = time.monotonic(), time.process_time()
        answers = await load.run(rate, seconds, patience_s=_PATIENCE_S)
        answered = [answer.total_ms for answer in answers if answer.status == "ok"]
        p99_ms = percentile(answered, 0.99) if answered else 0.0
        elapsed_s, own_s = time.monotonic() - began_s, time.process_time() - own_s
        return Offered(len(answers), _in_time(answers), len(answers) - len(answered), p99_ms, elapsed_s, own_s)

    return ask


def _asking_http(load: HttpLoad) -> Ask:
    """Ask over HTTP."""

    async def ask(rate: float, seconds: float) -> Offered:
        shape = LoadShape(seconds=seconds, connections=_CONNECTIONS, rate=rate, objective_ms=LATENCY_MS)
        report = await load.run(shape)
        refused = report.sent - report.answered
        return Offered(report.sent, report.in_time, refused, report.p99_ms, report.elapsed_s, report.cpu_s)

    return ask


async def _best_rate(ask: Ask, console: Console) -> float:
    """The highest rate of the ladder before the first at which too many are late or refused; twice is too many."""
    rate, best, misses = _FIRST_RATE, 0.0, 0
    while misses < 2:
        offered = await ask(rate, _STEP_S)
        share = offered.in_time / max(offered.sent, 1)
        console.log(f"{rate:.0f}/s: {share:.1%} in time")
        if share >= _IN_TIME:
            best, misses = rate, 0
        else:
            misses += 1
        rate *= _LADDER
    return best


async def _offer(
    name: str,
    ask: Ask,
    system: SystemUnderTest,
    broker: str,
    console: Console,
    best: float,
    factor: float,
    seconds: float,
) -> list[Figure]:
    before, spent_s = _memory_mib(system), _machine_cpu_s()
    offered = await ask(best * factor, seconds)
    all_cores = (_machine_cpu_s() - spent_s) / offered.elapsed_s
    goodput, refused = offered.in_time / seconds, offered.refused / max(offered.sent, 1)
    grown = max(_memory_mib(system) - before, 0.0)
    told = f"{goodput:.0f}/s in time, {refused:.1%} refused, p99 {offered.p99_ms:.0f} ms, memory +{grown:.0f} MiB"
    console.log(f"{name}: {told}, CPU {offered.own_s / offered.elapsed_s:.2f} of {all_cores:.2f}")
    first = Figure(
        name=f"{name}: answered in time", broker=broker, value=goodput, unit="queries/s", baseline=best * factor
    )
    if factor > 1:
        first = at_least(first.name, broker, goodput, "queries/s", best, GOODPUT)
    return [
        first,
        Figure(name=f"{name}: refused", broker=broker, value=100 * refused, unit="%"),
        Figure(name=f"{name}: answered, p99", broker=broker, value=offered.p99_ms, unit="ms"),
        Figure(name=f"{name}: memory gained by all processes", broker=broker, value=grown, unit="MiB"),
        Figure(
            name=f"{name}: CPU of who asks (baseline: of everything on the machine)", broker=broker, unit="cores",
            value=offered.own_s / offered.elapsed_s, baseline=all_cores,
        ),
    ]  # fmt: skip


async def _unhurried(ask: Ask, broker: str, console: Console, best: float, seconds: float) -> Figure:
    """Answers a second to queries that none may refuse: they have no deadline, so all of them wait."""
    offered = await ask(best * FACTORS[-1], seconds)
    rate = offered.answered / offered.elapsed_s
    console.log(f"without deadlines: {rate:.0f}/s answered, {offered.refused} refused, p99 {offered.p99_ms:.0f} ms")
    return at_least(f"overload x{FACTORS[-1]:g} without deadlines: answered", broker, rate, "queries/s", best, GOODPUT)


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


def _machine_cpu_s() -> float:
    """Seconds of CPU that the whole machine has used so far."""
    whole = psutil.cpu_times()
    return sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)


def _in_time(answers: Sequence[AnsweredQuery]) -> int:
    return sum(answer.status == "ok" and answer.total_ms <= LATENCY_MS for answer in answers)


def _memory_mib(system: SystemUnderTest) -> float:
    supervisor = psutil.Process(system.pid)
    return sum(p.memory_info().rss for p in (supervisor, *supervisor.children(recursive=True))) / 2**20
