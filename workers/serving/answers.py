"""Answers of one instance: results and errors are encoded and handed to the outbox.

Undecodable records become dead letters.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from broker.delivery.consumer import Consumer
from broker.delivery.outbox import Message, Outbox
from broker.kafka.types import Record
from schemas.errors import DeadlineExceeded, Internal, ModelFailed, QueryError
from workers.context import WorkerContext
from workers.serving.codec import Undecodable, encode_error, encode_result, identify
from workers.serving.measured_work import InstanceBacklog
from workers.serving.metrics import InstanceMetrics
from workers.serving.model import ServableModel
from workers.serving.pending_query import PendingQuery
from workers.serving.spans import InstanceSpans
from workers.slots.crash_journal import RecordKey, record_key

log = logging.getLogger(__name__)


class InstanceAnswers:
    """Sender of the answers of one instance.

    It reports each finished record to the consumer of its topic, so that the consumer can commit it. No method raises
    because of a query: a query that triggers a defect in this code becomes a dead letter.
    """

    def __init__(
        self,
        model: ServableModel,
        context: WorkerContext,
        metrics: InstanceMetrics,
        consumers: Mapping[str, Consumer],
        backlog: InstanceBacklog[RecordKey],
        spans: InstanceSpans | None,
    ) -> None:
        """Answer the queries of `consumers`, by topic, which hand out equal numbers of records."""
        self._variant, self._task = model.name, model.variant.task
        self._worker = context.settings.worker
        self._journal = context.journal
        self._metrics = metrics
        self._consumers = consumers
        self._backlog = backlog
        self._spans = spans
        self._trigger = context.trigger
        places = max(consumer.max_in_flight for consumer in consumers.values())
        self._outbox = Outbox(
            context.producer, self._done, self._error_message, streams=context.streams, hold=self.hold, places=places
        )
        self.retry_failed = self._outbox.retry_failed
        """Resends answers that were not acknowledged, until cancelled."""

    def identify(self, record: Record) -> PendingQuery | None:
        """Identify the query of a record. Returns None if there is none; the record is then a dead letter."""
        try:
            return identify(record, self._task)
        except Undecodable as error:
            self._outbox.give_up(record, str(error))
        except Exception as error:  # noqa: BLE001 - a defect must fail one query, not crash the worker each time
            self._dead_letter(record, error)
        return None

    async def send_result(self, query: PendingQuery, *, in_thread: bool = False) -> None:
        """Send the result of a query whose parts are all computed; a large one is encoded in a thread."""
        now_s = time.monotonic()
        late = now_s > query.deadline_s
        encode = partial(encode_result, query, self._variant, self._worker, late=late)
        try:
            message = await asyncio.to_thread(encode) if in_thread else encode()
        except Exception as error:  # noqa: BLE001 - as above
            await self.refuse(query, as_query_error(error, query, "the result could not be written"))
            return
        query.answered = True
        try:
            if self._spans is not None:
                self._spans.answering(query, message)
            self._metrics.count_result(query, now_s, late=late)
            await self._outbox.send(query.record, message)
        except Exception as error:  # noqa: BLE001 - as above
            self._dead_letter(query.record, error)

    async def refuse(self, query: PendingQuery, error: QueryError) -> None:
        """Send the error of a query."""
        query.answered = True
        record = query.record
        try:
            self._metrics.count_error(query.class_key, query.unfounded, expired=isinstance(error, DeadlineExceeded))
            message = encode_error(query, error, self._variant, self._worker)
            if self._spans is not None:
                self._spans.answering(query, message, error)
            if isinstance(error, ModelFailed) and self._journal.is_given_up(record_key(record)):
                self._outbox.give_up(record, str(error), message, self._journal.crashes(record_key(record)))
            else:
                await self._outbox.send(record, message)
        except Exception as defect:  # noqa: BLE001 - as above
            self._dead_letter(record, defect)

    def _done(self, record: Record, sent: Message | None) -> None:
        key = record_key(record)
        self._consumers[record.topic].done(record)
        self._backlog.remove(key)
        self._journal.clear(key)
        self._metrics.count_finished(sent)
        self._trigger.work()
        if self._spans is not None:
            self._spans.done(record, sent)

    def hold(self, record: Record, size: int) -> None:
        """Note that an unanswered record takes `size` bytes with what was made of it: tensors, or its result."""
        self._consumers[record.topic].hold(record, size)

    def _dead_letter(self, record: Record, error: Exception) -> None:
        """Make a dead letter of a record at which our own code fails; send its error as well if that is possible."""
        log.error("%s/%d/%d: given up", record.topic, record.partition, record.offset, exc_info=error)
        answer: Message | None = None
        with suppress(Exception):  # the defect may be in `identify` itself
            answer = self._error_message(record, Internal())
        self._outbox.give_up(record, f"a defect: {error!r}"[:500], answer)

    def _error_message(self, record: Record, error: QueryError) -> Message | None:
        """Return the error result of a record whose own result could not be sent; None if it names no query."""
        try:
            query = identify(record, self._task)
        except Undecodable:
            return None
        return encode_error(query, error, self._variant, self._worker)


def as_query_error(error: Exception, query: PendingQuery, otherwise: str) -> QueryError:
    """Return the error to send to the client: `Internal(otherwise)` for a defect of ours, which is also logged."""
    if isinstance(error, QueryError):
        return error
    log.error("query %s: %s", query.id, otherwise, exc_info=error)
    return Internal(otherwise)
