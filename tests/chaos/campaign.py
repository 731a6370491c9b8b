"""Campaign: one fault after another under steady load, with checks after each.

After a fault, every client must be answered again. Each query sent before the fault ended must have its answer, its
error or its dead letter. At the end no consumer may lag and no query may wait. The report is written after each fault,
so that a campaign that is cut off has one.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Final

import aiohttp
import msgspec
import psutil
from aiokafka.errors import KafkaError

from process.pauses import wait_within
from store.pool import open_pool
from store.samples import latest_lag
from tests.chaos.faults import Arena, FaultScenario
from tests.chaos.ledger import Ledger
from tests.chaos.resources import ResourceUse, cut_logs, disk_mib, measure_resources, own_mib
from tests.chaos.site import MissedTargetError
from tests.chaos.traffic import (
    CLIENTS,
    PATIENCE_S,
    ask_by_grpc,
    ask_by_http,
    ask_by_kafka,
    ask_by_library,
    read_results,
)
from tests.waiting import until

_RECOVER_S: Final = 120.0
_IDLE_S: Final = 90.0


class FaultReport(msgspec.Struct, kw_only=True):
    """Result of one fault."""

    fault: str
    at_s: float
    """Seconds from the start of the campaign."""
    lasted_s: float
    recovered_s: float | None
    """Seconds from its end until every kind of client was answered again; None: one was not."""
    settled_s: float
    """Seconds from its end until all earlier queries were answered."""
    lost: int
    """Queries sent before its end that were not answered in time."""
    shown_twice: int
    asked: int
    """Queries sent so far."""
    memory_mib: dict[str, float]
    """Resident memory by kind of process after the recovery; `clients` is this process, with the clients and the
    ledger."""
    disk_mib: float = 0.0
    """Size of all files of the system after the recovery."""
    problem: str = ""
    """Reason for which it could not be inflicted, or missed its target; empty if it did not."""


class CampaignReport(msgspec.Struct, kw_only=True):
    """Result of a campaign."""

    seed: int
    rate: float
    minutes: float
    asked: int
    lost: int
    shown_twice: int
    repeated: int
    """Results written again, as a plain reader of the log sees them."""
    behind: dict[str, int]
    """Lag of consumers at the end in records, by topic; -1: unknown."""
    waiting: int
    """Queries that the gateway still counted as in flight at the end."""
    outcomes: dict[str, dict[str, int]]
    """Number of queries, by client and outcome."""
    dead_letters: dict[str, int]
    """Number of queries that ended only as a dead letter, by reason."""
    memory_mib: dict[str, float]
    """Resident memory by kind of process before the first fault."""
    faults: list[FaultReport]
    began_with: ResourceUse | None = None
    """Resources before the first fault."""
    ended_with: ResourceUse | None = None
    """Resources at the end."""
    ended: bool
    """True if it came to its end; otherwise queries sent after the last fault are not judged yet."""

    @property
    def passed(self) -> bool:
        """True if no query was lost, shown twice or held, and the system recovered from all faults."""
        recovered = all(fault.recovered_s is not None and not fault.problem for fault in self.faults)
        return recovered and not (self.lost or self.shown_twice or self.waiting or any(self.behind.values()))

    @property
    def verdict(self) -> str:
        """Verdict for the report."""
        return ("passed" if self.ended else "passed so far") if self.passed else "FAILED"


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a campaign, and its end."""

    seed: int
    """Seed of the order of faults, and of their random choices."""
    rate: float
    """Queries per second of all clients together."""
    every_s: float
    """Least seconds from the beginning of one fault to the beginning of the next."""
    minutes: float = inf
    """Minutes after which no other fault begins."""
    queries: float = inf
    """Number of queries after which no other fault begins."""


async def run_campaign(
    arena: Arena,
    faults: Sequence[FaultScenario],
    course: Course,
    tell: Callable[[CampaignReport], None],
    stop: asyncio.Event,
) -> CampaignReport:
    """Inflict faults in seeded order, each once before any again, until the course ends or `stop` is set.

    Args:
        arena: the system, and the durations of faults.
        faults: faults that are possible here.
        course: parameters of the campaign.
        tell: called after each fault with the report so far.
        stop: when set, no other fault begins.
    """
    ledger, began = arena.ledger, time.monotonic()
    found = CampaignReport(
        seed=course.seed, rate=course.rate, minutes=0.0, asked=0, lost=0, shown_twice=0, repeated=0, behind={},
        waiting=0, outcomes={}, dead_letters={}, memory_mib={}, faults=[], ended=False,
    )  # fmt: skip
    async with _traffic(arena, course.rate):
        await _wait_until(lambda: all(ledger.first_answer(client, began) is not None for client in CLIENTS), _RECOVER_S)
        found.memory_mib = await asyncio.to_thread(_memory_mib, arena)
        found.began_with = await measure_resources(arena.site, arena.kafka)
        queue: list[FaultScenario] = []
        while not (stop.is_set() or time.monotonic() - began >= course.minutes * 60 or ledger.asked >= course.queries):
            queue = queue or arena.rng.sample(list(faults), len(faults))
            started = time.monotonic()
            found.faults.append(await inflict(queue.pop(), arena, began))
            _count(found, ledger, began)
            found.lost = sum(fault.lost for fault in found.faults)
            tell(found)
            await asyncio.to_thread(cut_logs, arena.site.system.home)
            await wait_within(max(0.0, started + course.every_s - time.monotonic()), stop)
    found.behind, found.waiting = await _still_held(arena)
    found.ended_with = await measure_resources(arena.site, arena.kafka)
    _count(found, ledger, began)
    found.lost, found.ended = ledger.lost(), True
    return found


def _count(found: CampaignReport, ledger: Ledger, began: float) -> None:
    """Copy the ledger's counts into a report, except lost queries."""
    reasons = list(ledger.dead_letters.values())
    found.minutes = (time.monotonic() - began) / 60
    found.asked = ledger.asked
    found.shown_twice = len(ledger.shown_twice)
    found.repeated = ledger.repeated
    found.outcomes = {client: dict(counts) for client, counts in ledger.outcomes.items()}
    found.dead_letters = {reason: reasons.count(reason) for reason in set(reasons)}


def _memory_mib(arena: Arena) -> dict[str, float]:
    return {**arena.site.memory_mib(), "clients": own_mib()}


@asynccontextmanager
async def _traffic(arena: Arena, rate: float) -> AsyncGenerator[None]:
    """Send queries while the context is open; on leaving, wait until all are answered or the patience ends."""
    kafka, run, each, stop = arena.kafka, arena.run, rate / len(CLIENTS), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read_results(arena.ledger, kafka), name="read results")
        asking = [
            tasks.create_task(ask_by_library(arena.ledger, kafka, run, each, stop), name="library"),
            tasks.create_task(ask_by_kafka(arena.ledger, kafka, run, each, stop), name="kafka"),
            tasks.create_task(ask_by_http(arena.ledger, arena.site.system.gateway, run, each, stop), name="http"),
            tasks.create_task(ask_by_grpc(arena.ledger, arena.site.system.grpc, run, each, stop), name="grpc"),
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait(asking)
            end = time.monotonic()
            await _wait_until(lambda: not arena.ledger.open_before(end), PATIENCE_S)
            reading.cancel()


async def inflict(fault: FaultScenario, arena: Arena, began: float) -> FaultReport:
    """Inflict one fault on a system under load, wait for the recovery, and return the result."""
    ledger, started = arena.ledger, time.monotonic()
    in_vain = ledger.in_vain
    problem = ""
    try:
        await fault.inflict(arena)
    except (
        KafkaError,
        OSError,
        psutil.Error,
        MissedTargetError,
    ) as error:  # the campaign continues: it may run unattended
        problem = repr(error)
    ended = time.monotonic()

    def recovered() -> bool:
        return all(ledger.first_answer(client, ended) is not None for client in CLIENTS)

    await _wait_until(lambda: not ledger.open_before(ended), PATIENCE_S)
    settled = time.monotonic()
    await _wait_until(recovered, _RECOVER_S)
    # A query that waited for Kafka to take it is open from its send on, but only known since then.
    await _wait_until(lambda: not ledger.open_before(ended), PATIENCE_S)
    firsts = [ledger.first_answer(client, ended) for client in CLIENTS]
    report = FaultReport(
        fault=fault.name,
        at_s=started - began,
        lasted_s=ended - started,
        recovered_s=max(first - ended for first in firsts if first is not None) if None not in firsts else None,
        settled_s=settled - ended,
        lost=len(ledger.open_before(ended)) + ledger.in_vain - in_vain,
        shown_twice=len(ledger.shown_twice),
        asked=ledger.asked,
        memory_mib=await asyncio.to_thread(_memory_mib, arena),
        disk_mib=await asyncio.to_thread(disk_mib, arena.site.system.home),
        problem=problem or fault.missed(arena),
    )
    ledger.forget_answers(ended)
    return report


async def _still_held(arena: Arena) -> tuple[dict[str, int], int]:
    """Return the lags that remain when all should be idle, by topic, and the gateway's queries in flight."""
    held: tuple[dict[str, int], int] = {}, 0
    async with open_pool(arena.site.system.postgres, max_size=1) as pool, aiohttp.ClientSession() as http:

        async def is_idle() -> bool:
            nonlocal held
            lags = {(s.topic, s.partition): -1 if s.lag is None else s.lag for s in await latest_lag(pool)}
            behind = {topic: lag for (topic, _), lag in lags.items() if lag}
            held = behind, await _gateway_in_flight(http, arena.site.system.gateway)
            return held == ({}, 0)

        await _wait_until(is_idle, _IDLE_S)
    return held


async def _gateway_in_flight(http: aiohttp.ClientSession, gateway: str) -> int:
    async with http.get(f"{gateway}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("infaas_gateway_in_flight "))


async def _wait_until(condition: Callable[[], bool | Awaitable[bool]], limit_s: float) -> None:
    """Wait until the condition is true, or for `limit_s`: the report states what is still missing then."""
    with suppress(AssertionError):
        await until(condition, limit_s)
