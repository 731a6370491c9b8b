"""Takes offline queries from their topics, a few of each task, and sends one on when an instance is idle.

    take -> held -> (an instance is idle) -> forwarded -> acknowledged -> done
                 -> (cannot be answered)  -> error result
                 -> (nothing that may answer it serves, and others pass it) -> put back at the end of its topic

Rules.
* A query is bound to an instance as late as can be (`selector/late_binding.py`). What waits stays in its topic. What is
  bound goes to the variant's topic of offline queries.
* Of each topic, that is of a task or a tenant, at most `HELD` queries are held, and while they are, no more are read:
  the flood of one holds up no other.
* A pass looks at all held queries, those of one class once. It follows upon new records and upon statuses, and is due
  when an instance is expected to be idle; those that find none take a tenth of the time at most.
* What waits for a variant that nobody serves is demanded. Once so many have passed it as are held, it goes to the end
  of its topic, or it would keep what follows from being read, and what is done from being committed.
* Partitions that are given up take what is held of them along: their next owner reads it again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Collection
from typing import Final

from broker.delivery.consumer import Consumer, Record
from process.event_wait import wait_within
from schemas.errors import Internal
from selector.dispatcher_base import DispatchContext, DispatcherBase
from selector.late_binding import Wait, bind
from selector.policy import Choice, Refusal
from selector.received_query import ReceivedQuery

log = logging.getLogger(__name__)

HELD: Final = 256
"""Queries of a topic that are read ahead."""
_READ: Final = 32
"""Most queries read before the event loop turns to something else."""
_FORWARDED: Final = 8
"""Most queries sent on before the event loop turns to something else: online ones wait meanwhile."""
_SPACING_S: Final = 0.002
_PASSES_SHARE: Final = 0.1
_PUT_BACK_S: Final = 1.0
"""Seconds that a query is held before it is put back."""


class _HeldQuery:
    """An offline query that was read and is not bound yet."""

    __slots__ = ("attempts", "passed", "received", "record", "since_s")

    def __init__(self, record: Record, received: ReceivedQuery, attempts: int, since_s: float, passed: int) -> None:
        self.record = record
        self.received = received
        self.attempts = attempts
        self.since_s = since_s
        self.passed = passed
        """How many of its topic had been sent on when it was read."""


class _HeldTopic:
    """The held queries of one topic, in the order in which they were read."""

    __slots__ = ("forwarded", "queries")

    def __init__(self) -> None:
        self.queries: dict[tuple[int, int], _HeldQuery] = {}
        """By partition and offset."""
        self.forwarded = 0


class OfflineDispatcher(DispatcherBase):
    """Forwards the offline queries of one selector when there is nothing else to do."""

    def __init__(self, context: DispatchContext, consumer: Consumer) -> None:
        super().__init__(context, consumer)
        self._held: dict[str, _HeldTopic] = {}
        self._full: set[str] = set()
        """Topics of which no more is read."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._ended = 0
        """Queries sent on or refused so far."""
        consumer.on_release = self._give_back

    @property
    def held(self) -> int:
        """Number of queries that wait here for an idle instance."""
        return sum(len(topic.queries) for topic in self._held.values())

    async def read(self) -> None:
        """Read queries of all topics of which not too many are held, until cancelled."""
        while True:
            records = await self._consumer.poll(_READ)
            for record in records:
                await self.take(record)
            if len(records) == _READ:  # more may be here, and would come without waiting
                await asyncio.sleep(0)

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Hold a query until it can be sent on; one that cannot be read becomes a dead letter."""
        received = await self._read(record, attempts, self._reader.read_offline)
        if received is None:
            return
        if self._stopped:
            self._consumer.give_back(record)
            return
        held = self._held.setdefault(record.topic, _HeldTopic())
        held.queries[record.partition, record.offset] = _HeldQuery(
            record, received, attempts, self._loop.time(), held.forwarded
        )
        if len(held.queries) >= HELD:
            self._full.add(record.topic)
            self._consumer.leave_out(self._full)
        self._wake.set()

    def look(self) -> None:
        """Look soon whether an instance is idle: a worker has said something."""
        if self._held:
            self._wake.set()

    def stop(self) -> None:
        """Have `forward` return, and give back what is held."""
        self._stopped = True
        self._wake.set()
        for held in self._held.values():
            for query in held.queries.values():
                self._consumer.give_back(query.record)
            held.queries.clear()

    async def forward(self) -> None:
        """Send queries on as instances become idle, until `stop`: cancelling would lose track of one."""
        due_s = math.inf
        while not self._stopped:
            await wait_within(due_s if due_s < math.inf else None, self._wake)
            self._wake.clear()
            began_s, before, due_s = self._loop.time(), self._ended, math.inf
            for name, held in list(self._held.items()):
                due_s = min(due_s, await self._forward_topic(held))
                if not held.queries:
                    self._held.pop(name, None)
            in_vain_s = self._loop.time() - began_s if self._ended == before else 0.0
            await asyncio.sleep(max(_SPACING_S, in_vain_s / _PASSES_SHARE))

    # -- one pass ------------------------------------------------------------------------------------------------------

    async def _forward_topic(self, held: _HeldTopic) -> float:
        """Send on what can be; returns the seconds after which to look again."""
        waiting: dict[object, Wait] = {}
        for key, query in list(held.queries.items()):
            if key not in held.queries:  # it was given back meanwhile
                continue
            needed = query.received.query
            now = time.monotonic()
            alike = needed.task, needed.needs, needed.batch, self._state.tenant_class_of(needed)
            known = waiting.get(alike)
            if known is not None and (needed.deadline_ms is None or needed.deadline_ms / 1000 > now):
                await self._wait(held, query, known, now)
                continue
            outcome = self._bind(query, now)
            if isinstance(outcome, Wait):
                waiting[alike] = outcome
                await self._wait(held, query, outcome, now)
                continue
            self._release(held, query)
            if isinstance(outcome, Internal):
                await self._reject(query.record, outcome, query.attempts)
            elif isinstance(outcome, Refusal):
                await self._refuse(query.record, query.received, outcome, now, query.attempts)
            else:
                await self._send(held, query, outcome, now)
            self._ended += 1
            if self._ended % _FORWARDED == 0:
                await asyncio.sleep(0)
        return min((wait.retry_s for wait in waiting.values()), default=math.inf)

    def _bind(self, query: _HeldQuery, now: float) -> Choice | Refusal | Wait | Internal:
        try:
            return bind(query.received.query, self._state, now, self._config)
        except Exception as error:  # a defect of ours must cost this query alone
            log.error("%s: record %d", query.record.topic, query.record.offset, exc_info=error)
            return Internal("the query could not be decided on")

    async def _wait(self, held: _HeldTopic, query: _HeldQuery, wait: Wait, now: float) -> None:
        if wait.wanted is None:
            return
        needed = query.received.query
        await self._demands.send(needed.task, wait.wanted, now, "an offline query waits for it")
        in_the_way = len(held.queries) >= HELD or held.forwarded - query.passed >= HELD
        if in_the_way and self._loop.time() - query.since_s > _PUT_BACK_S:
            self._release(held, query)
            await self._move(query.record, query.received, query.attempts)

    async def _send(self, held: _HeldTopic, query: _HeldQuery, choice: Choice, now: float) -> None:
        needed, instance = query.received.query, choice.instance
        assert instance is not None, "an offline query goes where it is served"
        held.forwarded += 1
        self._metrics.decided(needed.task, "serving")
        await self._forward(query.record, query.received, choice, choice.variant.offline_topic, now, query.attempts)
        self._state.sent_offline(instance, choice.partition, needed.batch, now)

    # -- what is held --------------------------------------------------------------------------------------------------

    def _release(self, held: _HeldTopic, query: _HeldQuery) -> None:
        record = query.record
        held.queries.pop((record.partition, record.offset), None)
        if record.topic in self._full and len(held.queries) < HELD:
            self._full.discard(record.topic)
            self._consumer.leave_out(self._full)

    def _give_back(self, partitions: Collection[tuple[str, int]]) -> None:
        for held in self._held.values():
            for query in [q for q in held.queries.values() if (q.record.topic, q.record.partition) in partitions]:
                self._release(held, query)
                self._consumer.give_back(query.record)
