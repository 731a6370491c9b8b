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
from collections.abc import Collection
from typing import Final

from broker.delivery.consumer import Consumer, Record
from process.pauses import wait_within
from schemas.errors import Internal
from schemas.offline_share import offline_pause_s, offline_share
from selector.admission.received_query import ReceivedQuery
from selector.dispatch.dispatcher import DispatchContext, DispatcherBase
from selector.dispatch.held_queries import HeldQueries, HeldQuery, Place, pause_s
from selector.policy.choice import Choice, Refusal
from selector.policy.late_binding import LateBinder, Wait

log = logging.getLogger(__name__)

_READ: Final = 32
"""Maximum of queries to read before the event loop gets control."""
_FORWARDED: Final = 8
"""Maximum of queries to forward before the event loop gets control; online queries wait meanwhile."""
_TRIED: Final = 512
"""Maximum of queries to look at before the event loop gets control."""


class OfflineDispatcher(DispatcherBase):
    """Forwards the offline queries of one selector to idle instances."""

    def __init__(self, context: DispatchContext, consumer: Consumer) -> None:
        super().__init__(context, consumer)
        self._held = HeldQueries[ReceivedQuery](context.config, consumer.leave_out)
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._ended = 0
        """Number of queries forwarded or refused so far."""
        consumer.on_release = self._give_back

    @property
    def held(self) -> int:
        """Number of queries that wait here for an idle instance."""
        return len(self._held)

    def of_lanes(self) -> dict[str, int]:
        """Return the number of held queries of lanes, by task."""
        return self._held.of_lanes()

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
        lane = self._held.hold(
            received.query,
            received,
            Place(record.topic, record.partition, record.offset),
            len(record.value or b""),
            time.monotonic(),
        )
        if lane is not None:
            self._count(received.query.task, "moved")
            await self._move(received, lane)
            return
        self._wake.set()

    def look(self) -> None:
        """Schedule a pass, because a status may have changed which instances are idle."""
        if self._held:
            self._wake.set()

    def stop(self) -> None:
        """End `forward`, and give back the held queries."""
        self._stopped = True
        self._wake.set()
        self._give_back(None)

    async def forward(self) -> None:
        """Forward queries as instances become idle, until `stop`; cancelling it would lose a query in progress."""
        due_s = math.inf
        while not self._stopped:
            await wait_within(due_s if due_s < math.inf else None, self._wake)
            self._wake.clear()
            began_s, before = self._loop.time(), self._ended
            due_s = await self._pass()
            await asyncio.sleep(pause_s(self._loop.time() - began_s if self._ended == before else 0.0))

    # -- one pass ------------------------------------------------------------------------------------------------------

    async def _pass(self) -> float:
        """Forward all held queries that can go, tenants in turn; return the seconds until the next pass."""
        binder = LateBinder(self._state, self._config)
        for tried, held in enumerate(self._held.turns(), 1):
            await self._try(held, binder)
            if tried % _TRIED == 0:
                await asyncio.sleep(0)
        return binder.retry_s

    async def _try(self, held: HeldQuery[ReceivedQuery], binder: LateBinder) -> None:
        """Forward a query, refuse it, or let it wait."""
        received, now = held.item, time.monotonic()
        outcome = self._bind(held, binder, now)
        if isinstance(outcome, Wait):
            await self._wait(held, outcome, now)
            return
        self._held.release(held)
        if isinstance(outcome, Internal):
            await self._reject(received.record, outcome, received.attempts)
        elif isinstance(outcome, Refusal):
            await self._refuse(received, outcome, now)
        else:
            await self._send(held, outcome, now)
        self._ended += 1
        if self._ended % _FORWARDED == 0:
            await asyncio.sleep(0)

    def _bind(
        self, held: HeldQuery[ReceivedQuery], binder: LateBinder, now: float
    ) -> Choice | Refusal | Wait | Internal:
        try:
            return binder.bind(held.query, now)
        except Exception as error:  # a bug must cost only this query
            log.error("%s: record %d", held.place.topic, held.place.offset, exc_info=error)
            return Internal("the query could not be decided on")

    async def _wait(self, held: HeldQuery[ReceivedQuery], wait: Wait, now: float) -> None:
        if wait.wanted is None:
            return
        await self._demands.send(held.query.task, wait.wanted, now, "an offline query waits for it")
        if self._held.is_in_the_way(held, now):
            self._held.release(held)
            await self._move(held.item, held.lane)  # a lane's query stays in its lane

    async def _send(self, held: HeldQuery[ReceivedQuery], choice: Choice, now: float) -> None:
        query, instance = held.query, choice.instance
        assert instance is not None, "an offline query is bound to an instance"
        self._held.forwarded(held, instance)
        self._metrics.decided(query.task, "serving")
        await self._forward(held.item, choice, now)
        self._state.sent_offline(instance, choice.partition, query.batch, now)

    def _give_back(self, partitions: Collection[tuple[str, int]] | None) -> None:
        for held in self._held.drop(partitions):
            self._consumer.give_back(held.item.record)
