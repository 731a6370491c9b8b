"""Queries through Kafka: thousands in flight, their results matched on one reply topic."""

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import TopicNotAllowed
from broker.kafka.types import KafkaError, NotAllowed, RecordTooLarge, UnknownTopic
from broker.producing.producer import Ack
from broker.replies.answer_stream import AnswerStream, OnPart, stream_answer
from broker.replies.request_reply import Reply, RequestReply
from infaas.client.transport import EncodedQuery
from process.security.signature import SigningKey, sign
from schemas import headers as h
from schemas.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    OperatorError,
    Overloaded,
    QueryError,
    RefusalReason,
    UnknownTask,
)
from schemas.query import Mode
from schemas.result import Result
from schemas.topics import ingress_topic, offline_of, query_topic, tenant_prefix, tenant_reply_topic


class KafkaTransport:
    """Transport over Kafka. Queries beyond `max_in_flight` wait for a slot."""

    def __init__(
        self,
        settings: KafkaSettings,
        max_in_flight: int,
        *,
        tenant: str | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        """Use the ingress topic of `tenant`, if given, else the tasks' topics; `signing_key` signs the queries."""
        self._slots: Final = asyncio.Semaphore(max_in_flight)
        self._topics: set[str] = set()
        self._listing: Final = asyncio.Lock()
        self._tenant = tenant
        self._signing_key = signing_key
        owner = f"client-{uuid4().hex[:12]}"
        whose = tenant or (None if signing_key is None else signing_key.tenant)
        replies = None if whose is None else tenant_reply_topic(whose, owner)
        self._requests = RequestReply(settings, owner, max_in_flight=max_in_flight, topic=replies)

    async def __aenter__(self) -> Self:
        try:
            await self._requests.__aenter__()
        except TopicNotAllowed as error:
            raise OperatorError(f"{error}; {self._who_may}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self._requests.__aexit__(kind, error, trace)

    async def ask(self, query: EncodedQuery) -> Result:
        """Send a query and return its result; see `Transport.ask`.

        Raises:
            UnknownTask: the task has no topic.
            InvalidRequest: the query exceeds Kafka's maximum record size.
        """
        return await self._ask(query, None)

    def stream(self, query: EncodedQuery) -> AbstractAsyncContextManager[AnswerStream]:
        """Send a query and return the parts of its answer; see `Transport.stream`, and `ask` for errors."""
        return stream_answer(lambda on_part: self._ask(query, on_part))

    async def _ask(self, query: EncodedQuery, on_part: OnPart | None) -> Result:
        topic = self._topic(query)
        limit_s = query.timeout_s if on_part is None else None  # a stream may take as long as parts come
        try:
            async with self._slots, asyncio.timeout(limit_s):
                await self._check(topic)
                return await self._requests.ask(
                    query.id,
                    topic,
                    query.message.value,
                    self._headers(query),
                    left_s=query.latency_s,
                    timeout_s=None if on_part is None else query.timeout_s,
                    on_sent=_fail_if_not_sent,
                    on_part=on_part,
                )
        except TimeoutError:
            message = f"there was no result within {query.timeout_s:g} s"
            raise DeadlineExceeded(message, reason=RefusalReason.NO_RESULT) from None
        except KafkaError as error:
            raise self._translated(error, query.task) from error

    def _topic(self, query: EncodedQuery) -> str:
        offline = query.fields.get(h.MODE) == Mode.OFFLINE
        if self._tenant is None:
            return query_topic(query.task, offline=offline)
        topic = ingress_topic(self._tenant)
        return offline_of(topic) if offline else topic

    async def _check(self, topic: str) -> None:
        """Raise UnknownTopic if the topic does not exist: the embedded broker would create it, without a consumer."""
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
        if self._tenant is not None:
            own[h.TASK] = query.task
        if message.json_length is not None:
            own[h.JSON_LENGTH] = str(message.json_length)
        fields = own | dict(query.fields)
        if self._signing_key is not None:
            fields[h.SIGNATURE] = self._signature(self._signing_key, query, fields)
        return [(name, text.encode()) for name, text in fields.items()]

    def _signature(self, key: SigningKey, query: EncodedQuery, fields: dict[str, str]) -> str:
        sent = fields | h.as_text(self._requests.stream_headers)
        return sign(key, query.task, sent, query.message.value, int(self._requests.producer.clock.now_ms()))

    @property
    def _who_may(self) -> str:
        if self._signing_key is not None:
            prefix = tenant_prefix(self._signing_key.tenant)
            return f"signing needs permission to write to tasks' topics, and to create and read topics {prefix}*"
        if self._tenant is None:
            return "send queries as a tenant, with tenant="
        return f"has tenant {self._tenant} been created (`infaas tenants create`), for this user?"

    def _translated(self, error: KafkaError, task: str) -> QueryError:
        if isinstance(error, UnknownTopic | NotAllowed) and self._tenant is not None:
            topic = ingress_topic(self._tenant)
            return Forbidden(f"Kafka has no topic {topic}, or does not let this user write there: {self._who_may}")
        if isinstance(error, UnknownTopic):
            return UnknownTask(f"there is no topic of a task {task!r}; to query a model, use its task and `target`")
        if isinstance(error, NotAllowed):
            return Forbidden(f"Kafka does not let this user write queries of {task!r}: {self._who_may}")
        if isinstance(error, RecordTooLarge):
            return InvalidRequest("the query is larger than Kafka accepts (INFAAS_KAFKA_MAX_RECORD_BYTES)")
        message = f"Kafka does not accept the query: {error or type(error).__name__}"
        return Overloaded(message, reason=RefusalReason.KAFKA_UNAVAILABLE)


def _fail_if_not_sent(sent: asyncio.Future[Ack], reply: Reply) -> None:
    def on_ack(done: asyncio.Future[Ack]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not reply.done():
            reply.set_exception(error)

    sent.add_done_callback(on_ack)
