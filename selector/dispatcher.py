"""Takes online queries from their topics, chooses an instance for each and forwards it, or answers with an error.

Hot path: `take` runs once per query. It creates no task, log line or formatted text, and does not wait for the
acknowledgement, which arrives as a callback and marks the record done. The budget is 0.6 of the throughput of a bare
consume-and-produce loop (`bench/throughput/selector.py`).

Offline queries that arrive on an online topic are moved to the offline topic, which `selector/offline_dispatcher.py`
reads.
"""

import logging
import math
import time
from collections.abc import Sequence

from broker.delivery.consumer import Consumer, Record
from schemas.errors import Internal, QueryError
from schemas.headers import LINGER_NS
from schemas.needs import Mode
from selector.candidates import TaskCandidates
from selector.choice import Choice, Refusal
from selector.dispatcher_base import DispatchContext, DispatcherBase
from selector.intake_pace import IntakePace
from selector.late_binding import bind_copy
from selector.overload import LoadShedder
from selector.received_query import ReceivedQuery
from selector.shadow import ShadowSender

log = logging.getLogger(__name__)


def _deadline(read: tuple[Record, ReceivedQuery]) -> float:
    deadline_ms = read[1].query.deadline_ms
    return math.inf if deadline_ms is None else deadline_ms


class Dispatcher(DispatcherBase):
    """Forwards, moves or refuses each query of the online topics of one selector."""

    def __init__(self, context: DispatchContext, consumer: Consumer, longest_rest_s: float) -> None:
        """Rest for at most `longest_rest_s` between two fetches."""
        super().__init__(context, consumer)
        self._load_shedder = LoadShedder(context.config)
        self._pace = IntakePace(longest_rest_s)
        self._shadows = ShadowSender(context.state, context.producer)

    def rest(self) -> None:
        """Delay the next fetch when recent queries can be batched with later ones."""
        rest_s = self._pace.rest_s(self._cpu.busy())
        if rest_s > 0.0:
            self._consumer.rest(rest_s)

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Forward one record, or answer it with an error; no error of the record is raised.

        Waits only while too many records are unacknowledged.
        """
        received = await self._read(record, attempts, self._reader.read)
        if received is not None:
            await self._send_on(record, received, attempts)

    async def take_all(self, records: Sequence[Record]) -> None:
        """Take the records of one fetch, in order of their deadlines.

        Workers compute in that order, so each later decision is for a place behind the earlier ones, as predicted.
        """
        read: list[tuple[Record, ReceivedQuery]] = []
        for record in records:
            received = await self._read(record, 1, self._reader.read)
            if received is not None:
                read.append((record, received))
        read.sort(key=_deadline)
        for record, received in read:
            await self._send_on(record, received, 1)

    async def _send_on(self, record: Record, received: ReceivedQuery, attempts: int) -> None:
        try:
            await self._decide(record, received, attempts)
        except QueryError as error:
            await self._reject(record, error, attempts)
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            await self._reject(record, Internal("the query could not be decided on"), attempts)

    async def _decide(self, record: Record, received: ReceivedQuery, attempts: int) -> None:
        query = received.query
        task = query.task
        if query.needs.mode is Mode.OFFLINE:
            await self._move(record, received, attempts)
            self._count(task, "moved")
            return
        now = time.monotonic()
        self._rhythm.came(now)
        if LINGER_NS in received.fields:
            self._pace.take_lingered()
        else:
            left_s = None if query.deadline_ms is None else query.deadline_ms / 1000 - now
            self._pace.take(now, left_s)
        outcome = self._load_shedder.decide(query, self._state, now)
        if isinstance(outcome, Refusal):
            await self._refuse(record, received, outcome, now, attempts)
            return
        known = self._state.seen_in(query)
        assert known is not None, "what was chosen is of a task that the tenant may use"
        copy = bind_copy(known, query, outcome.variant, now) if known.shadows and attempts == 1 else None
        topic = outcome.variant.topic
        await self._forward(record, received, outcome, topic, now, attempts, copied=copy is not None)
        self._state.sent(outcome.instance, outcome.partition, query.batch, now)
        if known.version_names:
            self._count_version(known, outcome, "answered")
        if copy is not None:
            self._count_version(known, copy, "copied")
            await self._shadows.send(received, copy, now)
        if outcome.instance is not None:
            self._metrics.decided(task, "upgraded" if outcome.upgraded else "serving")
            return
        self._metrics.decided(task, "loading")
        await self._demands.send(task, outcome.variant, now, "a query waits for it")

    def _count_version(self, task: TaskCandidates, choice: Choice, outcome: str) -> None:
        version = task.version_names.get(choice.variant.architecture)
        if version is not None:
            self._metrics.given_to_version(version, outcome)
