"""Queries through Kafka: thousands in flight, their results matched on one reply topic."""

import asyncio
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from broker.kafka_types import KafkaError, RecordTooLarge, UnknownTopic
from broker.producer import Ack
from broker.request_reply import Reply, RequestReply
from broker.settings import KafkaSettings
from infaas.client.transport import EncodedQuery
from schemas import headers as h
from schemas.errors import DeadlineExceeded, InvalidRequest, Overloaded, QueryError, UnknownTask
from schemas.needs import Mode
from schemas.result import Result
from schemas.topics import query_topic


class KafkaTransport:
    """The way through Kafka; more than `max_in_flight` queries wait for a slot."""

    def __init__(self, settings: KafkaSettings, max_in_flight: int) -> None:
        self._slots: Final = asyncio.Semaphore(max_in_flight)
        self._topics: set[str] = set()
        self._listing: Final = asyncio.Lock()
        self._requests = RequestReply(settings, f"client-{uuid4().hex[:12]}", max_in_flight=max_in_flight)

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self._requests.__aexit__(kind, error, trace)

    async def ask(self, query: EncodedQuery) -> Result:
        """See `Transport.ask`.

        Raises:
            UnknownTask: the task has no topic.
            InvalidRequest: the query is larger than Kafka takes.
        """
        topic = query_topic(query.task, offline=query.fields.get(h.MODE) == Mode.OFFLINE)
        try:
            async with self._slots, asyncio.timeout(query.timeout_s):
                await self._check(topic)
                return await self._requests.ask(
                    query.id,
                    topic,
                    query.message.value,
                    self._headers(query),
                    left_s=query.latency_s,
                    on_sent=_fail_if_not_sent,
                )
        except TimeoutError:
            raise DeadlineExceeded(f"there was no result within {query.timeout_s:g} s") from None
        except KafkaError as error:
            raise _translated(error, query.task) from error

    async def _check(self, topic: str) -> None:
        """Raise UnknownTopic for what does not exist: the embedded broker would make it, and nobody would answer."""
        if topic in self._topics:
            return
        async with self._listing:
            if topic not in self._topics:
                self._topics = await self._requests.producer.topics()
        if topic not in self._topics:
            raise UnknownTopic(topic)

    def _headers(self, query: EncodedQuery) -> h.RawHeaders:
        message = query.message
        own = {
            h.ID: query.id,
            h.REPLY_TO: self._requests.reply_topic,
            h.SENT_NS: str(self._requests.producer.clock.now_ns()),
            h.CONTENT_TYPE: message.content_type,
        }
        if message.json_length is not None:
            own[h.JSON_LENGTH] = str(message.json_length)
        return [(name, text.encode()) for name, text in (own | dict(query.fields)).items()]


def _fail_if_not_sent(sent: asyncio.Future[Ack], reply: Reply) -> None:
    def on_ack(done: asyncio.Future[Ack]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not reply.done():
            reply.set_exception(error)

    sent.add_done_callback(on_ack)


def _translated(error: KafkaError, task: str) -> QueryError:
    if isinstance(error, UnknownTopic):
        return UnknownTask(
            f"no task is called {task!r}, it has no topic; a model is asked for by its task and `target`"
        )
    if isinstance(error, RecordTooLarge):
        return InvalidRequest("the query is larger than Kafka takes (INFAAS_KAFKA_MAX_RECORD_BYTES)")
    return Overloaded(f"Kafka does not take the query: {error or type(error).__name__}")
