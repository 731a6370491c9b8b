"""One fault after another under steady load, and what is checked after each.

After a fault, every client must be answered again, and all that was asked before the fault ended must have its answer,
its error or its dead letter. At the end no consumer may be behind and nobody may wait.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from bench.chaos.faults import Arena, FaultScenario
from bench.chaos.traffic import CLIENTS, PATIENCE_S, ask_by_http, ask_by_kafka, ask_by_library, read_results
from store.pool import open_pool
from store.samples import latest_lag

_RECOVER_S: Final = 120.0
_IDLE_S: Final = 90.0
_LOOK_S: Final = 0.1


class FaultReport(msgspec.Struct, kw_only=True):
    """What became of one fault."""

    fault: str
    at_s: float
    """Seconds from the start of the campaign."""
    lasted_s: float
    recovered_s: float | None
    """Seconds from its end until every kind of client was answered again; None: one was not."""
    settled_s: float
    """Seconds from its end until all was answered that had been asked before."""
    lost: int
    """Queries asked before its end that nobody answered in time."""
    shown_twice: int
    asked: int
    """Queries asked so far."""
    memory_mib: dict[str, float]
    """Resident memory by kind of process when all had recovered."""


class CampaignReport(msgspec.Struct, kw_only=True):
    """What became of a campaign."""

    seed: int
    rate: float
    minutes: float
    asked: int
    lost: int
    shown_twice: int
    repeated: int
    """Results written again, as a plain reader of the log sees them."""
    behind: dict[str, int]
    """Records that consumers were behind at the end, by topic; what is unknown counts as -1."""
    waiting: int
    """Queries for which the gateway still held a place at the end."""
    outcomes: dict[str, dict[str, int]]
    """By client, how many queries ended how."""
    dead_letters: dict[str, int]
    """Queries that ended as a dead letter alone, by reason."""
    memory_mib: dict[str, float]
    """Resident memory by kind of process before the first fault."""
    faults: list[FaultReport]

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, shown twice or held, and all recovered."""
        recovered = all(fault.recovered_s is not None for fault in self.faults)
        return recovered and not (self.lost or self.shown_twice or self.waiting or any(self.behind.values()))


async def run_campaign(
    arena: Arena,
    faults: Sequence[FaultScenario],
    *,
    seed: int,
    rate: float,
    minutes: float,
    every_s: float,
    tell: Callable[[FaultReport], None],
) -> CampaignReport:
    """Inflict faults in seeded order, each once before any again, until the minutes are over.

    Args:
        arena: the system, and how long faults last.
        faults: those that can be done here.
        seed: of the order and of what the faults draw.
        rate: queries a second of all clients together.
        minutes: after which no other fault begins.
        every_s: least seconds from the beginning of one fault to that of the next.
        tell: is told of each fault when it is over.
    """
    ledger, began = arena.ledger, time.monotonic()
    reports: list[FaultReport] = []
    async with _traffic(arena, rate):
        await _wait_until(lambda: all(ledger.first_answer(client, began) is not None for client in CLIENTS), _RECOVER_S)
        memory = await asyncio.to_thread(arena.site.memory_mib)
        queue: list[FaultScenario] = []
        while time.monotonic() - began < minutes * 60:
            queue = queue or arena.rng.sample(list(faults), len(faults))
            started = time.monotonic()
            reports.append(await _inflict(queue.pop(), arena, began))
            tell(reports[-1])
            await asyncio.sleep(max(0.0, started + every_s - time.monotonic()))
    behind, waiting = await _still_held(arena)
    reasons = list(ledger.dead_letters.values())
    return CampaignReport(
        seed=seed,
        rate=rate,
        minutes=(time.monotonic() - began) / 60,
        asked=ledger.asked,
        lost=ledger.lost(),
        shown_twice=len(ledger.shown_twice),
        repeated=ledger.repeated,
        behind=behind,
        waiting=waiting,
        outcomes={client: dict(counts) for client, counts in ledger.outcomes.items()},
        dead_letters={reason: reasons.count(reason) for reason in set(reasons)},
        memory_mib=memory,
        faults=reports,
    )


@asynccontextmanager
async def _traffic(arena: Arena, rate: float) -> AsyncGenerator[None]:
    """Ask while the context is open; leaving it waits until every query is answered, or given up."""
    kafka, run, each, stop = arena.kafka, arena.run, rate / len(CLIENTS), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read_results(arena.ledger, kafka), name="read results")
        asking = [
            tasks.create_task(ask_by_library(arena.ledger, kafka, run, each, stop), name="library"),
            tasks.create_task(ask_by_kafka(arena.ledger, kafka, run, each, stop), name="kafka"),
            tasks.create_task(ask_by_http(arena.ledger, arena.site.system.gateway, run, each, stop), name="http"),
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait(asking)
            end = time.monotonic()
            await _wait_until(lambda: not arena.ledger.open_before(end), PATIENCE_S)
            reading.cancel()


async def _inflict(fault: FaultScenario, arena: Arena, began: float) -> FaultReport:
    ledger, started = arena.ledger, time.monotonic()
    in_vain = ledger.in_vain
    await fault.inflict(arena)
    ended = time.monotonic()

    def recovered() -> bool:
        return all(ledger.first_answer(client, ended) is not None for client in CLIENTS)

    await _wait_until(lambda: not ledger.open_before(ended), PATIENCE_S)
    settled = time.monotonic()
    await _wait_until(recovered, _RECOVER_S)
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
        memory_mib=await asyncio.to_thread(arena.site.memory_mib),
    )
    ledger.forget_answers(ended)
    return report


async def _still_held(arena: Arena) -> tuple[dict[str, int], int]:
    """Who is behind when all should be idle, and how many places the gateway still holds."""
    behind: dict[str, int] = {}
    waiting = 0
    end = time.monotonic() + _IDLE_S
    async with open_pool(arena.site.system.postgres, max_size=1) as pool, aiohttp.ClientSession() as http:
        while time.monotonic() < end:
            lags = {(s.topic, s.partition): -1 if s.lag is None else s.lag for s in await latest_lag(pool)}
            behind = {topic: lag for (topic, _), lag in lags.items() if lag}
            waiting = await _gateway_in_flight(http, arena.site.system.gateway)
            if not behind and not waiting:
                break
            await asyncio.sleep(1.0)
    return behind, waiting


async def _gateway_in_flight(http: aiohttp.ClientSession, gateway: str) -> int:
    async with http.get(f"{gateway}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("infaas_gateway_in_flight "))


async def _wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - the books have no event, and are cheap to ask
        await asyncio.sleep(_LOOK_S)


def new_random(seed: int) -> random.Random:
    """The source of all that a campaign draws."""
    return random.Random(seed)
