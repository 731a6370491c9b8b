"""Holds offline queries, a limited number per tenant, and forwards one when an instance is idle.

    take -> held -> (an instance is idle) -> forwarded -> acknowledged -> done
                 -> (cannot be answered)  -> error result
                 -> (no instance serves its variant, and others pass it) -> put back at the end of its topic
         -> (its tenant's limit is reached) -> moved to the tenant's lane, and taken from there in its turn

Rules.
* A query is bound to an instance as late as possible (`selector/policy/late_binding.py`); until then it stays in its
  topic. A bound query goes to the variant's offline topic.
* Tenants take turns across tasks: the next query is of the tenant with the least cost so far
  (`selector/admission/tenant_shares.py`).
* A task's topic is read to its end, so that no tenant waits behind another's flood. At most `HELD` of its queries are
  held per tenant, and `HELD_OF_TASK` in all. Further ones are written once to a lane: a partition of one common topic,
  chosen by a hash of task and tenant. Two tenants may share a lane by chance; then they wait for each other.
* While online queries come, the more of the CPU time is in use, the fewer queries are read: each costs a write, or two.
* A lane, or a tenant's own topic, is not read while its limit is reached. So memory is bounded, in bytes as well.
* A pass looks at all held queries; alike ones need only one evaluation. It follows new records and statuses, and is due
  when an instance is expected to be idle. Passes without success take at most a tenth of the time.
* A variant that queries wait for without an instance is demanded. A query that more than `HELD` others have passed is
  moved to the end of its topic; otherwise it would block later records and the commits.
* A revoked partition's held queries are dropped; its next owner reads them again.
"""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import count
from typing import Final, TypeAlias
from zlib import crc32

from broker.delivery.consumer import Consumer, Record
from process.pauses import wait_within
from schemas.errors import Internal
from schemas.offline_share import offline_pause_s, offline_share
from schemas.topics import LANE_COUNT, LANES, tenant_of
from selector.admission.received_query import ReceivedQuery
from selector.admission.tenant_shares import Account, FairShares, TenantAccounts
from selector.dispatch.dispatcher import DispatchContext, DispatcherBase
from selector.policy.choice import Choice, Refusal
from selector.policy.late_binding import Wait, bind

log = logging.getLogger(__name__)

HELD: Final = 256
"""Maximum of held queries per tenant of a task's topic, per lane, and per tenant's own topic."""
HELD_OF_TASK: Final = 1024
"""Maximum of held queries of all tenants of a task's topic."""
_HELD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of queries, per `HELD`, from which on no more are held."""
_HELD_BYTES_OF_TASK: Final = 4 * _HELD_BYTES
_READ: Final = 32
"""Maximum of queries to read before the event loop gets control."""
_FORWARDED: Final = 8
"""Maximum of queries to forward before the event loop gets control; online queries wait meanwhile."""
_TRIED: Final = 512
"""Maximum of queries to look at before the event loop gets control."""
_SPACING_S: Final = 0.002
_PASSES_SHARE: Final = 0.1
_PUT_BACK_S: Final = 1.0
"""Seconds that a query is held before it is put back."""
_LEAST_COST_S: Final = 50e-6
"""Least seconds per input, for reading and answering it."""


@dataclass(slots=True, eq=False)
class _HeldQuery:
    """An offline query that was read and is not bound yet."""

    received: ReceivedQuery
    since_s: float
    passed: int
    """Value of its group's `passed` when it was read."""
    account: Account

    @property
    def record(self) -> Record:
        """Its record."""
        return self.received.record


_Source: TypeAlias = str | tuple[str, int]
"""A topic, or one partition of it."""
_Place: TypeAlias = tuple[int, int]
"""Partition and offset."""
_Alike: TypeAlias = tuple[object, ...]
_Turn: TypeAlias = tuple[float, int, "list[_HeldQuery]", "_Held"]


@dataclass(slots=True, eq=False)
class _Held:
    """Queries held of one tenant of a task's topic, of a lane, or of a tenant's own topic, in reading order."""

    source: _Source
    """Topic or partition that is not read while this is full."""
    queries: dict[_Place, _HeldQuery] = field(default_factory=dict[_Place, _HeldQuery])
    bytes: int = 0
    passed: int = 0
    """Number of queries forwarded or moved."""

    @property
    def is_full(self) -> bool:
        return len(self.queries) >= HELD or self.bytes >= _HELD_BYTES

    def add(self, query: _HeldQuery) -> None:
        record = query.record
        self.queries[record.partition, record.offset] = query
        self.bytes += len(record.value or b"")

    def remove(self, query: _HeldQuery) -> bool:
        """Remove a query; return true if it was held."""
        record = query.record
        if self.queries.pop((record.partition, record.offset), None) is None:
            return False
        self.bytes -= len(record.value or b"")
        return True


@dataclass(slots=True, eq=False)
class _OfTask:
    """Number and bytes of held queries of a task's topic."""

    queries: int = 0
    bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.queries >= HELD_OF_TASK or self.bytes >= _HELD_BYTES_OF_TASK

    def add(self, record: Record, sign: int = 1) -> None:
        self.queries += sign
        self.bytes += sign * len(record.value or b"")


class OfflineDispatcher(DispatcherBase):
    """Forwards the offline queries of one selector to idle instances."""

    def __init__(self, context: DispatchContext, consumer: Consumer) -> None:
        super().__init__(context, consumer)
        self._held: dict[object, _Held] = {}
        """Groups by topic and tenant, by partition of a lane, or by a tenant's own topic."""
        self._of_task: defaultdict[str, _OfTask] = defaultdict(_OfTask)
        """Held queries by task topic."""
        self._accounts = TenantAccounts(context.config.tenants, context.config.max_unlisted_tenants)
        self._shares = FairShares(self._accounts)
        self._full: set[_Source] = set()
        """Topics and partitions that are not read at present."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._ended = 0
        """Number of queries forwarded or refused so far."""
        self._serial = count().__next__
        consumer.on_release = self._give_back

    @property
    def held(self) -> int:
        """Number of queries that wait here for an idle instance."""
        return sum(len(held.queries) for held in self._held.values())

    def of_lanes(self) -> dict[str, int]:
        """Return the number of held queries of lanes, by task."""
        lanes = (held for held in self._held.values() if isinstance(held.source, tuple))
        return Counter(query.received.query.task for held in lanes for query in held.queries.values())

    async def read(self) -> None:
        """Read queries of all topics below their limits, until cancelled."""
        while True:
            records = await self._consumer.poll(_READ)
            for record in records:
                await self.take(record)
            if (rest_s := self._rest_s(len(records))) > 0.0:
                await asyncio.sleep(rest_s)
            elif len(records) == _READ:  # more may be buffered, and would be returned without yielding
                await asyncio.sleep(0)

    def _rest_s(self, queries: int) -> float:
        """Return the seconds to wait after `queries` were read, while online queries come and the CPUs are in use."""
        share = offline_share(self._cpu.busy())
        if share >= 1.0 or not self._online_arrivals.expects_more(time.monotonic()):
            return 0.0
        return offline_pause_s(queries, 0.0, share)

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Hold a query until it can be forwarded, or move it to a lane; an unreadable one becomes a dead letter."""
        received = await self._read(record, attempts, offline=True)
        if received is None:
            return
        if self._stopped:
            self._consumer.give_back(record)
            return
        account = self._accounts.of(received.query.tenant)
        key, source = _where(record, account)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(source)
        if _is_of_task(record) and (held.is_full or self._of_task[record.topic].is_full):
            held.passed += 1
            self._count(received.query.task, "moved")
            await self._move(received, lane_of(received.query.task, account))
            return
        held.add(_HeldQuery(received, self._loop.time(), held.passed, account))
        if _is_of_task(record):
            self._of_task[record.topic].add(record)
        elif held.is_full:
            self._full.add(source)
            self._consumer.leave_out(self._full)
        self._wake.set()

    def look(self) -> None:
        """Schedule a pass, because a status may have changed which instances are idle."""
        if self._held:
            self._wake.set()

    def stop(self) -> None:
        """End `forward`, and give back the held queries."""
        self._stopped = True
        self._wake.set()
        for held in self._held.values():
            for query in held.queries.values():
                self._consumer.give_back(query.record)
            held.queries.clear()

    async def forward(self) -> None:
        """Forward queries as instances become idle, until `stop`; cancelling it would lose a query in progress."""
        due_s = math.inf
        while not self._stopped:
            await wait_within(due_s if due_s < math.inf else None, self._wake)
            self._wake.clear()
            began_s, before = self._loop.time(), self._ended
            due_s = await self._pass()
            for key in [key for key, held in self._held.items() if not held.queries]:
                del self._held[key]
            in_vain_s = self._loop.time() - began_s if self._ended == before else 0.0
            await asyncio.sleep(max(_SPACING_S, in_vain_s / _PASSES_SHARE))

    # -- one pass ------------------------------------------------------------------------------------------------------

    async def _pass(self) -> float:
        """Forward all held queries that can go, tenants in turn; return the seconds until the next pass."""
        each = [(held, list(held.queries.values())) for held in self._held.values() if held.queries]
        self._shares.begin({query.account for _, queries in each for query in queries})
        turns: list[_Turn] = []
        for held, queries in each:
            queries.reverse()
            turns.append((self._shares.given(queries[-1].account), self._serial(), queries, held))
        heapify(turns)
        waiting: dict[_Alike, Wait] = {}
        tried = 0
        while turns and not self._stopped:
            given, _serial, queries, held = turns[0]
            present = self._shares.given(queries[-1].account)
            if given < present:  # its account got a turn in another group meanwhile
                heapreplace(turns, (present, self._serial(), queries, held))
                continue
            await self._try(held, queries.pop(), waiting)
            if queries:
                heapreplace(turns, (self._shares.given(queries[-1].account), self._serial(), queries, held))
            else:
                heappop(turns)
            tried += 1
            if tried % _TRIED == 0:
                await asyncio.sleep(0)
        return min((wait.retry_s for wait in waiting.values()), default=math.inf)

    async def _try(self, held: _Held, query: _HeldQuery, waiting: dict[_Alike, Wait]) -> None:
        """Forward a query, refuse it, or let it wait with the result of an equal query."""
        if (query.record.partition, query.record.offset) not in held.queries:  # given back meanwhile
            return
        needed, now = query.received.query, time.monotonic()
        alike = needed.task, needed.needs, needed.batch, self._state.tenant_class_of(needed)
        outcome: Choice | Refusal | Wait | Internal | None = waiting.get(alike)
        if outcome is None or (needed.deadline_ms is not None and needed.deadline_ms / 1000 <= now):
            outcome = self._bind(query, now)
        if isinstance(outcome, Wait):
            waiting[alike] = outcome
            await self._wait(held, query, outcome, now)
            return
        self._release(held, query)
        if isinstance(outcome, Internal):
            await self._reject(query.record, outcome, query.received.attempts)
        elif isinstance(outcome, Refusal):
            await self._refuse(query.received, outcome, now)
        else:
            held.passed += 1
            await self._send(query, outcome, now)
        self._ended += 1
        if self._ended % _FORWARDED == 0:
            await asyncio.sleep(0)

    def _bind(self, query: _HeldQuery, now: float) -> Choice | Refusal | Wait | Internal:
        try:
            return bind(query.received.query, self._state, now, self._config)
        except Exception as error:  # a bug must cost only this query
            log.error("%s: record %d", query.record.topic, query.record.offset, exc_info=error)
            return Internal("the query could not be decided on")

    async def _wait(self, held: _Held, query: _HeldQuery, wait: Wait, now: float) -> None:
        if wait.wanted is None:
            return
        needed = query.received.query
        await self._demands.send(needed.task, wait.wanted, now, "an offline query waits for it")
        in_the_way = held.is_full or held.passed - query.passed >= HELD
        if in_the_way and self._loop.time() - query.since_s > _PUT_BACK_S:
            self._release(held, query)
            # A lane's query stays in its lane.
            lane = query.record.partition if query.record.topic == LANES else None
            await self._move(query.received, lane)

    async def _send(self, query: _HeldQuery, choice: Choice, now: float) -> None:
        needed, instance = query.received.query, choice.instance
        assert instance is not None, "an offline query is bound to an instance"
        input_s = instance.model.input_s() * instance.slowdown * instance.width
        self._shares.give(query.account, needed.batch * max(input_s, _LEAST_COST_S))
        self._metrics.decided(needed.task, "serving")
        await self._forward(query.received, choice, now)
        self._state.sent_offline(instance, choice.partition, needed.batch, now)

    # -- what is held --------------------------------------------------------------------------------------------------

    def _release(self, held: _Held, query: _HeldQuery) -> None:
        if not held.remove(query):
            return
        if _is_of_task(query.record):
            of_task = self._of_task[query.record.topic]
            of_task.add(query.record, -1)
            if not of_task.queries:
                del self._of_task[query.record.topic]
        elif held.source in self._full and not held.is_full:
            self._full.discard(held.source)
            self._consumer.leave_out(self._full)

    def _give_back(self, partitions: Collection[tuple[str, int]]) -> None:
        for held in self._held.values():
            for query in [q for q in held.queries.values() if (q.record.topic, q.record.partition) in partitions]:
                self._release(held, query)
                self._consumer.give_back(query.record)


def lane_of(task: str, account: Account) -> int:
    """Return the lane (partition of the lanes' topic) of a tenant's queries of a task."""
    return crc32(f"{task} {account}".encode()) % LANE_COUNT


def _is_of_task(record: Record) -> bool:
    """Return true if a record is of a task's topic, which all tenants share."""
    return record.topic != LANES and tenant_of(record.topic) is None


def _where(record: Record, account: Account) -> tuple[object, _Source]:
    """Return the group that a query is held in, and the source that is not read while the group is full."""
    if record.topic == LANES:
        lane = (LANES, record.partition)
        return lane, lane
    if tenant_of(record.topic) is not None:
        return record.topic, record.topic
    return (record.topic, account), record.topic
