"""One process's reply topic: results are matched to those who wait for them by id.

At least once upstream means a result may come twice: the first of an id is given to its waiter, later ones are dropped
and counted. If reading the topic ends, everybody who waits fails at once rather than at a timeout.
"""

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from prometheus_client import Counter, Gauge

from broker.kafka_types import Record
from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topics import TopicSpec, delete_topics, ensure_topics
from schemas.errors import InfaasError, Internal, InvalidRequest, Overloaded
from schemas.headers import as_text
from schemas.result import Result, parse_result
from schemas.topics import reply_topic

log = logging.getLogger(__name__)

RETENTION_MS: Final = 600_000
_ANSWERED_KEPT: Final = 20_000

WAITING = Gauge("infaas_replies_waiting_count", "Queries of this process that wait for their result")
DROPPED = Counter("infaas_replies_dropped_total", "Results that nobody waited for", ["reason"])
_duplicate, _late, _invalid = (DROPPED.labels(reason) for reason in ("duplicate", "late", "invalid"))


class Replies:
    """Async context manager: creates the topic on entry and deletes it on exit."""

    def __init__(self, settings: KafkaSettings, owner: str, *, max_waiting: int = 10_000) -> None:
        self.topic = reply_topic(owner)
        self._settings = settings
        self._max_waiting = max_waiting
        self._waiting: dict[str, asyncio.Future[Result]] = {}
        self._answered: dict[str, None] = {}
        self._tail = Tail(settings, f"replies-{owner}", [self.topic])
        self._tasks = asyncio.TaskGroup()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await ensure_topics(self._settings, [TopicSpec(self.topic, 1, RETENTION_MS)])
        await self._tail.__aenter__()
        await self._tasks.__aenter__()
        self._pump = self._tasks.create_task(self._read(), name=f"replies {self.topic}")
        self._pump.add_done_callback(self._fail_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._pump is not None:
                self._pump.cancel()
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._tail.__aexit__(None, None, None)
            await self._delete()

    def expect(self, query_id: str) -> asyncio.Future[Result]:
        """The result to come of a query. Whoever stops waiting calls `forget`.

        Raises:
            Overloaded: too many are waiting.
            InvalidRequest: somebody already waits for this id.
            Internal: reading the reply topic has ended.
        """
        if self._closed:
            raise Internal("the reply topic is no longer read")
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} queries are waiting for their result already")
        if query_id in self._waiting:
            raise InvalidRequest(f"a query with id {query_id!r} is already waiting for its result")
        self._answered.pop(query_id, None)
        future = self._waiting[query_id] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, query_id: str) -> None:
        """Nobody waits for this result any more; no-op if it has come."""
        self._waiting.pop(query_id, None)

    async def _read(self) -> None:
        while True:
            for record in await self._tail.batch():
                self._on_record(record)
            WAITING.set(len(self._waiting))

    def _fail_all(self, _pump: asyncio.Task[None]) -> None:
        """Whatever ended the reading, even before it began."""
        self._closed = True
        for query_id, future in self._waiting.items():
            if not future.done():
                future.set_exception(Internal(f"the result of {query_id} can no longer be read"))
        self._waiting.clear()

    def _on_record(self, record: Record) -> None:
        try:
            result = parse_result(as_text(record.headers), record.value or b"")
        except (KeyError, ValueError) as error:
            _invalid.inc()
            log.debug("%s: record %d is not a result: %r", self.topic, record.offset, error)
            return
        future = self._waiting.pop(result.id, None)
        if future is not None and not future.done():
            future.set_result(result)
            self._remember(result.id)
        elif result.id in self._answered:
            _duplicate.inc()
        else:
            _late.inc()

    def _remember(self, query_id: str) -> None:
        self._answered[query_id] = None
        if len(self._answered) > _ANSWERED_KEPT:
            del self._answered[next(iter(self._answered))]

    async def _delete(self) -> None:
        try:
            await delete_topics(self._settings, [self.topic])
        except InfaasError as error:
            log.warning("%s is left behind: %s", self.topic, error)
