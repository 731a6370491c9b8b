"""Overload: share of queries answered in time beyond the machine's capacity, and the refusal of the rest.

Two clients: a plain Kafka program (librdkafka, with its default linger of 5 ms, as in kafka-clients 4), and HTTP. First
the best rate is found: the highest at which 99 % are answered in time. Then 0.5, 1, 2 and 5 times this rate is offered
for a while each, with a deadline; by Kafka also 5 times without a deadline, and 5 times with a producer that makes a
request of each query. At last one tenant floods the system while another sends a tenth of the best rate. A refusal is
an answer at once; a query whose deadline has passed is late, like an answer after it.

The clients and Kafka share the machine, and their CPU time is not the system's. So each rate beyond the best has a
control: the system gets the best rate, and the same program wastes the rest, either to a topic without consumers, or to
a server that refuses everything. Answers in time over the control's show the system's cost of refusing; over the best
rate, they include the client's cost of sending. A control and its load take turns in each round.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec
import psutil
from rich.console import Console

from bench.core.bracket import find_goodput
from bench.core.figures import Figure, at_least, beside, percentile, plain
from bench.core.programs import cpu_seconds, running_module
from bench.core.rounds import ROUNDS, take_rounds
from bench.core.system import SystemUnderTest
from bench.load.http_load import HttpLoad, LoadShape, compiled_client
from bench.load.http_message import infer_request
from bench.load.kafka_load import LINGER_MS, AnsweredQuery, LibrdkafkaLoad
from bench.load.pace import record_of
from process.sockets import free_port
from schemas import headers as h
from schemas.oip import EncodedMessage, encode_request
from schemas.topics import task_topic
from zoo.samples import labelled

TASK: Final = "sentiment"
MIN_ACCURACY: Final = b"0.85"
"""Accuracy of variants that take some milliseconds, so that the model is the bottleneck and not the client."""
LATENCY_MS: Final = 250.0
SECONDS: Final = 10.0
"""Duration of each load."""
FACTORS: Final = (0.5, 1.0, 2.0, 5.0)
GOODPUT: Final = 0.9
"""Share of the best rate, and of the control, that must be answered in time under overload."""
_FIRST_RATE: Final = 200.0
_IN_TIME: Final = 0.99
_WARM_UP: Final = (20.0, 5.0)
_PATIENCE_S: Final = 600.0
_CONNECTIONS: Final = 256


class Offered(NamedTuple):
    """Result of a load."""

    sent: int
    answered: int
    """Queries with a result, late ones included."""
    in_time: int
    refused: int
    """Queries with another error than a passed deadline; the rest is late."""
    p99_ms: float
    """99th percentile of the answered queries."""
    elapsed_s: float
    """Seconds from the first query to the last answer."""
    own_s: float
    """CPU time of the client."""

    @property
    def late(self) -> int:
        """Queries that were neither refused nor answered in time."""
        return self.sent - self.in_time - self.refused

    def share(self, count: int) -> float:
        """Return a count of queries over those sent."""
        return count / max(self.sent, 1)


class _Observed(NamedTuple):
    """Load, and its cost on this machine."""

    offered: Offered
    grown_mib: float
    """Memory gained by all processes of the system."""
    own_cores: float
    """Mean cores that the client used."""
    all_cores: float
    """Mean cores that everything on the machine used."""


OfferRate: TypeAlias = Callable[[float, float, float], Awaitable[Offered]]
"""Function (rate, seconds, wasted) that sends `rate` queries per second and wastes `wasted` more."""


async def measure(system: SystemUnderTest, broker: str, console: Console, seconds: float = SECONDS) -> list[Figure]:
    """Measure answers in time at multiples of the best rate. The system must be up, with the task registered."""
    trial = _Trial(system, broker, console, seconds)
    async with _load(system, deadline=True) as load:
        best = await trial.by_door("overload", _asking(load))
    async with _load(system, deadline=False) as load:
        await trial.unhurried(_asking(load), best)
    async with _load(system, deadline=True, linger_ms=0) as load:
        await trial.offer(f"overload x{FACTORS[-1]:g}, a request a query", _asking(load), best, FACTORS[-1], rounds=1)
    trial.figures.append(await _fairness(system, broker, best, seconds))
    async with _asking_http(system) as ask:
        await trial.by_door("overload by HTTP", ask)
    return trial.figures


class _Trial:
    """Loads on one system, and their figures."""

    def __init__(self, system: SystemUnderTest, broker: str, console: Console, seconds: float) -> None:
        self._system = system
        self._broker = broker
        self._console = console
        self._seconds = seconds
        self.figures: list[Figure] = []

    async def by_door(self, door: str, ask: OfferRate) -> float:
        """Find the best rate of a client and offer multiples of it. Returns the best rate."""
        await ask(*_WARM_UP, 0.0)
        best = await self._best_rate(ask)
        self.figures.append(plain(f"{door}: best rate with 99 % in time", self._broker, best, "queries/s"))
        for factor in FACTORS:
            await self.offer(f"{door} x{factor:g}", ask, best, factor, rounds=ROUNDS if factor == FACTORS[-1] else 1)
        return best

    async def offer(self, name: str, ask: OfferRate, best: float, factor: float, *, rounds: int) -> None:
        """Offer a multiple of the best rate; a multiple above 1 is preceded by its control."""
        named, unit = f"{name}: answered in time", "queries/s"

        async def take(_number: int) -> tuple[_Observed, _Observed | None]:
            wasted = best * (factor - 1)
            control = await self._ask(f"{name}, control", ask, best, wasted) if wasted > 0 else None
            return await self._ask(name, ask, best * factor), control

        found = await take_rounds(take, rounds)
        loads, controls = [load for load, _ in found.taken], [one for _, one in found.taken if one is not None]
        goodput, could = ([one.offered.in_time / self._seconds for one in side] for side in (loads, controls))
        if controls:
            figures = [
                plain(f"{name}: control, the rest wasted: answered in time", self._broker, could, unit),
                at_least(named, self._broker, goodput, unit, best, GOODPUT),
                at_least(f"{named}, over the control", self._broker, goodput, unit, could, GOODPUT),
            ]
        else:
            figures = [beside(named, self._broker, goodput, unit, best * factor)]
        self.figures += found.of([*figures, *_fates(name, self._broker, loads), *_costs(name, self._broker, loads)])

    async def unhurried(self, ask: OfferRate, best: float) -> None:
        """Measure the rate of answers to queries without a deadline: they may not be refused, so all of them wait."""
        name = f"overload x{FACTORS[-1]:g} without deadlines"
        load = await self._ask(name, ask, best * FACTORS[-1])
        rate = load.offered.answered / load.offered.elapsed_s
        self.figures.append(at_least(f"{name}: answered", self._broker, rate, "queries/s", best, GOODPUT))
        self.figures += _costs(name, self._broker, [load])

    async def _best_rate(self, ask: OfferRate) -> float:
        async def sustains(rate: float) -> bool:
            offered = await ask(rate, self._seconds, 0.0)
            share = offered.share(offered.in_time)
            self._console.log(f"{rate:.0f}/s: {share:.1%} in time")
            return share >= _IN_TIME

        return await find_goodput(_FIRST_RATE, sustains)

    async def _ask(self, name: str, ask: OfferRate, rate: float, wasted: float = 0.0) -> _Observed:
        memory, cpu, all_s = _memory_mib(self._system), self._cpu(), _machine_cpu_s()
        offered = await ask(rate, self._seconds, wasted)
        elapsed_s = offered.elapsed_s
        shares = {kind: (taken - cpu.get(kind, 0.0)) / elapsed_s for kind, taken in self._cpu().items()}
        all_cores, own_cores = (_machine_cpu_s() - all_s) / elapsed_s, offered.own_s / elapsed_s
        grown_mib = max(_memory_mib(self._system) - memory, 0.0)
        self._console.log(
            f"{name}: {offered.in_time / self._seconds:.0f}/s in time, {offered.share(offered.refused):.1%} refused, "
            f"{offered.share(offered.late):.1%} late, p99 {offered.p99_ms:.0f} ms, +{grown_mib:.0f} MiB",
            highlight=False,
        )
        self._console.log(f"cores: {_ranked({**shares, 'client': own_cores})} of {all_cores:.2f}", highlight=False)
        return _Observed(offered, grown_mib, own_cores, all_cores)

    def _cpu(self) -> Mapping[str, float]:
        return cpu_seconds(psutil.Process(self._system.pid))


def _fates(name: str, broker: str, loads: Sequence[_Observed]) -> Iterator[Figure]:
    offered = [load.offered for load in loads]
    yield plain(f"{name}: refused", broker, [100 * one.share(one.refused) for one in offered], "%")
    yield plain(f"{name}: late", broker, [100 * one.share(one.late) for one in offered], "%")
    yield plain(f"{name}: answered, p99", broker, [one.p99_ms for one in offered], "ms")


def _costs(name: str, broker: str, loads: Sequence[_Observed]) -> Iterator[Figure]:
    yield plain(f"{name}: memory gained by all processes", broker, [load.grown_mib for load in loads], "MiB")
    named, own = (
        f"{name}: CPU of the client (baseline: of everything on the machine)",
        [load.own_cores for load in loads],
    )
    yield beside(named, broker, own, "cores", [load.all_cores for load in loads])


def _ranked(cores: Mapping[str, float]) -> str:
    ranked = sorted(cores.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {taken:.2f}" for name, taken in ranked if taken >= 0.01)


def _query() -> EncodedMessage:
    inputs, _labels = labelled(TASK)
    return encode_request({name: array[:1] for name, array in inputs.items()})


def _load(system: SystemUnderTest, *, deadline: bool, tenant: str = "", linger_ms: int = LINGER_MS) -> LibrdkafkaLoad:
    value, headers = record_of(_query())
    headers += [(h.MIN_ACCURACY, MIN_ACCURACY)]
    headers += [(h.LATENCY_MS, b"%d" % LATENCY_MS)] if deadline else []
    headers += [(h.TENANT, tenant.encode())] if tenant else []
    return LibrdkafkaLoad(system.kafka, task_topic(TASK), value, headers, linger_ms=linger_ms)


def _asking(load: LibrdkafkaLoad) -> OfferRate:
    """Return a function that sends queries as a plain Kafka program."""

    async def ask(rate: float, seconds: float, wasted: float) -> Offered:
        began_s, own_s = time.monotonic(), time.process_time()
        answers = await load.run(rate, seconds, wasted, patience_s=_PATIENCE_S)
        answered = [answer.total_ms for answer in answers if answer.status == "ok"]
        p99_ms = percentile(answered, 0.99) if answered else 0.0
        elapsed_s, own_s = time.monotonic() - began_s, time.process_time() - own_s
        refused = sum(answer.refused for answer in answers)
        return Offered(len(answers), len(answered), _in_time(answers), refused, p99_ms, elapsed_s, own_s)

    return ask


@asynccontextmanager
async def _asking_http(system: SystemUnderTest) -> AsyncGenerator[OfferRate]:
    """Yield a function that sends queries over HTTP, and wastes requests on a bare server that refuses them."""
    needs = {h.MIN_ACCURACY: MIN_ACCURACY.decode(), h.LATENCY_MS: f"{LATENCY_MS:g}"}
    request, bare_port = infer_request(TASK, _query(), **needs), free_port()
    bare = (str(bare_port), str(len(request.message())))
    async with compiled_client() as client:
        asked, wasting = (HttpLoad(client, port, [request]) for port in (urlsplit(system.gateway).port or 0, bare_port))
        async with running_module(system.kafka, "bench.load.bare_refuser", *bare):
            yield lambda rate, seconds, wasted: _ask_http(asked, wasting, rate, seconds, wasted)


async def _ask_http(asked: HttpLoad, wasting: HttpLoad, rate: float, seconds: float, wasted: float) -> Offered:
    async with asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(asked.run(_shape(rate, seconds)), name="ask")]
        if wasted:
            loads.append(tasks.create_task(wasting.run(_shape(wasted, seconds)), name="waste"))
    report = loads[0].result()
    own_s = sum(load.result().cpu_s for load in loads)
    return Offered(report.sent, report.answered, report.in_time, report.refused, report.p99_ms, report.elapsed_s, own_s)


def _shape(rate: float, seconds: float) -> LoadShape:
    return LoadShape(seconds=seconds, connections=_CONNECTIONS, rate=rate, objective_ms=LATENCY_MS)


async def _fairness(system: SystemUnderTest, broker: str, best: float, seconds: float) -> Figure:
    """Measure the share in time of a tenant at a tenth of the best rate while another sends five times that rate."""
    flood, modest = f"flood-{uuid.uuid4().hex[:4]}", f"modest-{uuid.uuid4().hex[:4]}"
    async with _load(system, deadline=True, tenant=flood) as many, _load(system, deadline=True, tenant=modest) as few:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(many.run(best * 5, seconds, patience_s=_PATIENCE_S), name="flood")
            asking = tasks.create_task(few.run(best / 10, seconds, patience_s=_PATIENCE_S), name="modest")
        share = _in_time(asking.result()) / max(best / 10 * seconds, 1.0)
    figure = plain("overload x5 by one tenant: another's tenth answered in time", broker, 100 * share, "%")
    return msgspec.structs.replace(figure, target=">= 90 %", passed=share >= 0.9)


def _machine_cpu_s() -> float:
    """Return the seconds of CPU that the whole machine has used so far."""
    whole = psutil.cpu_times()
    return sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)


def _in_time(answers: Sequence[AnsweredQuery]) -> int:
    return sum(answer.status == "ok" and answer.total_ms <= LATENCY_MS for answer in answers)


def _memory_mib(system: SystemUnderTest) -> float:
    supervisor = psutil.Process(system.pid)
    resident = 0
    for process in (supervisor, *supervisor.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            resident += process.memory_info().rss
    return resident / 2**20
