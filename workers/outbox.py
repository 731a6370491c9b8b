"""Sends results and dead letters of one instance, and says when a record is done: once that is acknowledged.

Rules.
* Nobody waits for an acknowledgement: it marks the record done by a callback.
* A result whose topic does not exist makes the record a dead letter. Any other failure, such as a broker that is away,
  is tried again until it succeeds; the record is not done before, so nothing is lost if we die meanwhile.
* What failed waits aside and blocks nobody. It is bounded by what the consumer hands out.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from broker.consumer import Record
from broker.dead_letters import bury
from broker.kafka_types import KafkaError, UnknownTopic
from broker.producer import Ack, Producer
from schemas.headers import RawHeaders
from schemas.result import OK
from workers.metrics import InstanceMetrics
from workers.request import Query

log = logging.getLogger(__name__)

_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0)


class _Failed(NamedTuple):
    """A result that could not be sent."""

    query: Query
    value: bytes
    headers: RawHeaders
    code: str
    error: BaseException


class _DeadLetter(NamedTuple):
    """A record that nobody can be answered for."""

    record: Record
    reason: str
    attempts: int
    done: Callable[[], None] | None


class Outbox:
    """One instance's; `done` is called with each record that is finished."""

    def __init__(self, producer: Producer, done: Callable[[Record], None], metrics: InstanceMetrics) -> None:
        self._producer = producer
        self._done = done
        self._metrics = metrics
        self._failed: deque[_Failed | _DeadLetter] = deque()
        self._trouble = asyncio.Event()

    async def send(self, query: Query, value: bytes, headers: RawHeaders, code: str = OK) -> None:
        """Send the result of a query; waits only while too much is unacknowledged."""
        acknowledged = await self._producer.send(query.reply_to, value, key=query.id.encode(), headers=headers)
        acknowledged.add_done_callback(partial(self._acknowledged, query, value, headers, code))

    def bury(self, record: Record, reason: str, attempts: int = 1, *, finishes: bool = True) -> None:
        """Make a record a dead letter; it is done with that, unless it `finishes` otherwise."""
        self._put_aside(_DeadLetter(record, reason, attempts, partial(self._done, record) if finishes else None))

    async def mend(self) -> None:
        """Deal with what failed, until cancelled."""
        failures = 0
        while True:
            await self._trouble.wait()
            self._trouble.clear()
            for _ in range(len(self._failed)):
                if not await self._try_again(self._failed.popleft()):
                    failures += 1
                    await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S)) - 1])
                else:
                    failures = 0

    def _acknowledged(
        self, query: Query, value: bytes, headers: RawHeaders, code: str, acknowledged: "asyncio.Future[Ack]"
    ) -> None:
        if acknowledged.cancelled():  # the producer closes; the record is delivered again
            return
        error = acknowledged.exception()
        if error is not None:
            self._put_aside(_Failed(query, value, headers, code, error))
            return
        self._metrics.answered(code)
        self._done(query.record)

    def _put_aside(self, failed: "_Failed | _DeadLetter") -> None:
        self._failed.append(failed)
        self._trouble.set()

    async def _try_again(self, failed: "_Failed | _DeadLetter") -> bool:
        """Whether it went well as far as can be said now."""
        if isinstance(failed, _DeadLetter):
            return await self._bury(failed)
        if isinstance(failed.error, UnknownTopic):
            reason = f"the result's topic {failed.query.reply_to} does not exist"
            return await self._bury(
                _DeadLetter(failed.query.record, reason, 1, partial(self._done, failed.query.record))
            )
        log.warning("result to %s not acknowledged, sending it again: %r", failed.query.reply_to, failed.error)
        await self.send(failed.query, failed.value, failed.headers, failed.code)
        return False

    async def _bury(self, letter: _DeadLetter) -> bool:
        try:
            await bury(self._producer, letter.record, letter.reason, letter.attempts)
        except KafkaError as error:
            log.warning("dead letter not acknowledged, sending it again: %r", error)
            self._put_aside(letter)
            return False
        self._metrics.buried("unanswerable")
        if letter.done is not None:
            letter.done()
        return True
