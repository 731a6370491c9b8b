"""Dispatcher of online queries: chooses an instance for each query and forwards it, or answers with an error.

Hot path: `take_all` runs once per fetch. A query creates no task, log line or formatted text, and does not wait for the
acknowledgement, which arrives as a callback and marks the record done. The budget is 0.6 of the throughput of a bare
consume-and-produce loop (`bench/throughput/selector.py`).

Offline queries that arrive on an online topic are moved to the offline topic, which `selector/dispatch/offline.py`
reads.

Shadow copies of queries go, as offline queries, to an instance of the candidate version that is idle now; without one
there is no copy. So copies never queue for capacity, and stop under load. The result of a copy, and a copy of the
client's result, go to `infaas.shadows`, where the autoscaler compares them. A copy that Kafka does not accept is
dropped, without an effect on the client's answer.
"""

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from broker.delivery.consumer import Consumer, Record
from broker.kafka.types import KafkaError
from broker.producing.producer import Ack, Producer
from process.security.signature import LARGE_BYTES
from schemas import headers as h
from schemas.errors import Internal, QueryError
from schemas.headers import LINGER_NS
from schemas.query import Mode
from schemas.topics import SHADOWS
from selector.admission.overload import LoadShedder
from selector.admission.received_query import ReceivedQuery
from selector.dispatch.dispatcher import DispatchContext, DispatcherBase, forwarded
from selector.dispatch.fetch_delay import FetchDelay
from selector.policy.candidates import TaskCandidates
from selector.policy.choice import Choice, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.late_binding import bind_copy

log = logging.getLogger(__name__)

_CLIENTS: Final = frozenset(
    {
        h.REPLY_TO, h.REPLY_STREAM, h.CORRELATION, h.DEADLINE_MS, h.LATENCY_MS, h.MIN_ACCURACY, h.MAX_COST, h.MODE,
        h.TARGET, h.EXPLAIN, h.TTFT_MS, h.TPOT_MS, h.STREAM, *h.TRACE,
    }
)  # fmt: skip
"""Headers with a client's wishes for its own answer."""


class ShadowSender:
    """Sender of one selector's copies."""

    def __init__(self, state: ClusterState, producer: Producer) -> None:
        self._state = state
        self._producer = producer

    async def send(self, received: ReceivedQuery, copy: Choice, now: float) -> None:
        """Send a copy; errors are ignored."""
        query = received.query
        offset_ms = self._producer.offset_ms(copy.variant.offline_topic, copy.partition.number)
        headers = [
            pair for pair in forwarded(query, copy, received.headers, now, offset_ms, None) if pair[0] not in _CLIENTS
        ]
        headers += (
            (h.REPLY_TO, SHADOWS.encode()),
            (h.MODE, Mode.OFFLINE.encode()),
            (h.TARGET, copy.variant.architecture.encode()),
        )
        instance = copy.instance
        assert instance is not None, "a copy goes where it is served"
        self._state.sent_offline(instance, copy.partition, query.batch, now)
        await self._producer.post(
            copy.variant.offline_topic,
            received.value,
            partial(self._acknowledged, copy),
            key=query.id.encode(),
            headers=headers,
            partition=copy.partition.number,
        )

    def _acknowledged(self, copy: Choice, outcome: Ack | KafkaError) -> None:
        if isinstance(outcome, Ack):
            self._state.acknowledged(copy.instance, copy.partition, outcome.offset, time.monotonic())
        else:
            self._state.failed(copy.partition)


def _deadline(received: ReceivedQuery) -> float:
    deadline_ms = received.query.deadline_ms
    return math.inf if deadline_ms is None else deadline_ms


class Dispatcher(DispatcherBase):
    """Forwards, moves or refuses each query of the online topics of one selector."""

    def __init__(self, context: DispatchContext, consumer: Consumer, longest_rest_s: float) -> None:
        """Rest for at most `longest_rest_s` between two fetches."""
        super().__init__(context, consumer)
        self._load_shedder = LoadShedder(context.config)
        self._fetch_delay = FetchDelay(longest_rest_s)
        self._shadows = ShadowSender(context.state, context.producer)

    def rest(self) -> None:
        """Delay the next fetch when recent queries can be batched with later ones."""
        rest_s = self._fetch_delay.rest_s(self._cpu.busy())
        if rest_s > 0.0:
            self._consumer.rest(rest_s)

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Forward one record, or answer it with an error; no error of the record is raised.

        Waits only while too many records are unacknowledged.
        """
        received = await self._read(record, attempts)
        if received is not None:
            await self._send_on(received)

    async def take_all(self, records: Sequence[Record]) -> None:
        """Take the records of one fetch, in order of their deadlines.

        Workers compute in that order, so each later decision is for a place behind the earlier ones, as predicted.
        """
        read: list[ReceivedQuery] = []
        for record in records:
            if record.value is None or len(record.value) <= LARGE_BYTES:
                outcome = self._read_now(record, 1)
                if isinstance(outcome, ReceivedQuery):
                    read.append(outcome)
                elif outcome is not None:
                    await self._reject(record, outcome, 1)
            elif (received := await self._read(record, 1)) is not None:
                read.append(received)
        read.sort(key=_deadline)
        self._note_arrivals(read, time.monotonic())
        for received in read:
            await self._send_on(received)

    def _note_arrivals(self, read: Sequence[ReceivedQuery], now: float) -> None:
        """Count the online queries of a fetch, which are sorted by deadline."""
        online = [received for received in read if received.query.needs.mode is not Mode.OFFLINE]
        if online:
            self._online_arrivals.came(now)
        at_once = [received for received in online if LINGER_NS not in received.fields]
        if len(at_once) < len(online):
            self._fetch_delay.take_lingered()
        if at_once:
            nearest_ms = at_once[0].query.deadline_ms
            self._fetch_delay.take(now, None if nearest_ms is None else nearest_ms / 1000 - now, len(at_once))

    async def _send_on(self, received: ReceivedQuery) -> None:
        record = received.record
        try:
            await self._decide(received)
        except QueryError as error:
            await self._reject(record, error, received.attempts)
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            await self._reject(record, Internal("the query could not be decided on"), received.attempts)

    async def _decide(self, received: ReceivedQuery) -> None:
        query = received.query
        task = query.task
        if query.needs.mode is Mode.OFFLINE:
            await self._move(received)
            self._count(task, "moved")
            return
        now = time.monotonic()
        outcome = self._load_shedder.decide(query, self._state, now)
        if isinstance(outcome, Refusal):
            await self._refuse(received, outcome, now)
            return
        known = self._state.seen_in(query)
        assert known is not None, "a chosen variant is of a task that the tenant may use"
        copy = bind_copy(known, query, outcome.variant, now) if known.shadows and received.attempts == 1 else None
        await self._forward(received, outcome, now, copied=copy is not None)
        self._state.sent(outcome.instance, outcome.partition, query.batch, now, query.due_s)
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
