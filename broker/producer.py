"""Sends records: idempotent, acknowledged by all replicas, bounded in flight.

Rules.
* `send` returns when the record is in the send buffer, so records of one caller to one partition keep their order. The
  future it returns is the broker's acknowledgement, or the KafkaError that kept the record out.
* A record for a topic, or a partition, that this producer does not know waits aside, for a bounded time, until the
  metadata is here: neither its caller nor records for other topics wait for what may not exist. A topic found missing
  is remembered for a moment and refused at once.
* Records carry the broker's time, not this machine's; in topics of ours the broker puts its own over it.
* The embedded broker gives out no producer ids and is written to without idempotence: a record whose acknowledgement
  was lost with its connection may then be there twice.

Hot: called twice a query by the selector. `bench/` compares it with a bare aiokafka producer.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TypeAlias

from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaTimeoutError, ProducerClosed
from aiokafka.structs import RecordMetadata

from broker.client import new_producer, start_client
from broker.clock import BrokerClock
from broker.features import broker_features
from broker.kafka_types import APPEND_TIME, KafkaError, UnknownTopic
from broker.settings import KafkaSettings
from schemas.headers import RawHeaders

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

__all__ = ["Ack", "KafkaError", "Producer", "RecordSender", "UnknownTopic"]

log = logging.getLogger(__name__)

Ack: TypeAlias = RecordMetadata
"""Place where a record was written: `topic`, `partition`, `offset`; and its `timestamp` in milliseconds."""

METADATA_S: Final = 2.0
"""Seconds that a record waits for the metadata of its topic."""
MISSING_FOR_S: Final = 2.0
_LOOK_INTERVAL_S: Final = 0.02
"""Between two looks for a partition, if the first did not find it."""
_NO_HEADERS: Final[RawHeaders] = []


class RecordSender(Protocol):
    """Sender of records: what a producer is to those who only send."""

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: RawHeaders = ...,
        partition: int | None = None,
    ) -> asyncio.Future[Ack]:
        """Send a record; returns the acknowledgement to come, as `Producer.send` does."""
        ...


class _Parked(NamedTuple):
    """A record whose topic is not known yet."""

    acknowledged: asyncio.Future[Ack]
    value: bytes | None
    key: bytes | None
    headers: RawHeaders
    partition: int | None


class Producer:
    """Producer of records for any number of tasks of one event loop; an async context manager."""

    def __init__(self, settings: KafkaSettings, client_id: str, *, max_in_flight: int = 5000) -> None:
        self._settings = settings
        self._client_id = client_id
        self._max_in_flight = max_in_flight
        self.clock: Final = BrokerClock()
        """The broker's time, as acknowledgements tell it."""
        self._is_timing = False
        self._producer: AIOKafkaProducer
        # Futures of what was sent, done ones among them: cheaper than a callback for each.
        self._sent: list[asyncio.Future[Ack]] = []
        self._learnt: set[str] = set()
        self._known: set[str] = set()
        """Topics fetched before that are in the metadata now, and for which no record waits aside."""
        self._missing: dict[str, float] = {}
        self._parked: dict[str, deque[_Parked]] = {}
        self._tasks = asyncio.TaskGroup()
        self._loop = asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """Number of records not yet acknowledged. It counts them, so do not ask at every record."""
        return sum(not future.done() for future in self._sent)

    async def __aenter__(self) -> Self:
        await start_client(self._settings, self._start())
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is in flight, for the request timeout at most; what is not acknowledged then fails."""
        try:
            await self._tasks.__aexit__(None, None, None)
            if self.in_flight:
                await asyncio.wait(self._sent, timeout=self._settings.request_timeout_ms / 1000)
        finally:
            if self.in_flight:
                await self._give_up()
            await self._producer.stop()

    async def _give_up(self) -> None:
        """Fail what is in flight: an idempotent aiokafka producer would try until Kafka is back, its `stop` waiting."""
        producer: Any = self._producer  # what is private there: there is no other way
        await producer._sender.close()
        producer._message_accumulator.fail_all(KafkaTimeoutError("Kafka did not take the record before we left"))

    async def prefetch_metadata(self, topics: Iterable[str], *, refresh: bool = False) -> None:
        """Fetch the metadata of topics before the first record is sent to them; those that do not exist are skipped.

        `refresh` fetches that of topics known before, too, when they have more partitions.
        """
        unknown = {topic for topic in topics if topic not in self._learnt}
        client = self._producer.client
        if refresh:
            try:
                await self._refresh()
            except TimeoutError:  # a record for a partition not known waits for it
                log.warning("Kafka does not say which partitions there are")
        for topic in unknown:
            client.add_topic(topic)
        for topic in unknown:
            try:
                await self._learn(topic)
            except (KafkaError, TimeoutError):
                self._untrack(topic)
                log.warning("topic %s does not exist yet", topic)

    async def topics(self) -> set[str]:
        """Names of all topics. The request names none, since some brokers make each topic that they are asked for.

        Raises:
            KafkaError: Kafka does not say.
        """
        return (await self._producer.client.fetch_all_metadata()).topics()

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: RawHeaders = _NO_HEADERS,
        partition: int | None = None,
    ) -> asyncio.Future[Ack]:
        """Put a record into the send buffer; waits while `max_in_flight` records are not acknowledged.

        Returns:
            The acknowledgement to come. It fails with a KafkaError when the record is too large, its topic or partition
            does not exist, or Kafka has not taken it within the request timeout; but one that was on its way when Kafka
            went is sent again until Kafka is back or this producer is left. Cancelling it does not take it back.
        """
        if len(self._sent) >= self._max_in_flight:
            await self._make_room()
        sent_s = time.monotonic()
        if topic not in self._known:
            future = self._park(topic, value, key, headers, partition)
        else:
            try:
                future = await self._producer.send(topic, value, key, partition, int(self.clock.now_ms()), headers)
            except KafkaError as error:
                future = self._failed(error)
            except AssertionError:  # so aiokafka says that there is no such partition, or neither key nor value
                if self._has(topic, partition):
                    raise
                future = self._park(topic, value, key, headers, partition)
        self._sent.append(future)
        if not self._is_timing:  # one at a time: a callback for each would cost more than it tells
            self._is_timing = True
            future.add_done_callback(partial(self._on_timed, sent_s))
        return future

    def _on_timed(self, sent_s: float, done: asyncio.Future[Ack]) -> None:
        self._is_timing = False
        if done.cancelled() or done.exception() is not None:
            return
        ack = done.result()
        if ack.timestamp is not None and ack.timestamp_type == APPEND_TIME:
            self.clock.on_append(sent_s, time.monotonic(), ack.timestamp)

    async def send_and_wait(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: RawHeaders = _NO_HEADERS,
        partition: int | None = None,
    ) -> Ack:
        """Send a record, and wait for its acknowledgement.

        Raises:
            KafkaError: as the future of `send`.
        """
        return await (await self.send(topic, value, key=key, headers=headers, partition=partition))

    async def learn_time(self, topic: str, value: bytes | None = None) -> None:
        """Write a record, so as to know the broker's time from its acknowledgement before anything depends on it."""
        try:
            await self.send_and_wait(topic, value, key=self._client_id.encode())
        except KafkaError as error:
            log.warning("the broker's time is not known yet: %r", error)

    async def _make_room(self) -> None:
        while len(sent := [future for future in self._sent if not future.done()]) >= self._max_in_flight:
            await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        self._sent = sent

    def _failed(self, error: KafkaError) -> asyncio.Future[Ack]:
        future: asyncio.Future[Ack] = self._loop.create_future()
        future.set_exception(error)
        return future

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        features = await broker_features(self._settings)
        self._producer = new_producer(self._settings, self._client_id, idempotent=features.idempotence)
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        self._producer.client.cluster.add_listener(self._on_metadata)

    # -- topics not known yet ------------------------------------------------------------------------------------------

    def _on_metadata(self, cluster: ClusterMetadata) -> None:
        """Forget topics that are gone: aiokafka would wait for them in its own `send`, and our caller with it."""
        self._known = {
            topic
            for topic in self._learnt
            if topic not in self._parked and cluster.partitions_for_topic(topic) is not None
        }

    def _park(
        self, topic: str, value: bytes | None, key: bytes | None, headers: RawHeaders, partition: int | None
    ) -> asyncio.Future[Ack]:
        if self._missing.get(topic, 0.0) > self._loop.time():
            return self._failed(UnknownTopic(topic))
        record = _Parked(self._loop.create_future(), value, key, headers, partition)
        waiting = self._parked.get(topic)
        if waiting is None:
            waiting = self._parked[topic] = deque()
            self._tasks.create_task(self._unpark(topic, waiting), name=f"learn {topic}")
        waiting.append(record)
        return record.acknowledged

    async def _unpark(self, topic: str, waiting: deque[_Parked]) -> None:
        """Send what waits for `topic`, in order, when its metadata is here; fail it if it does not come."""
        problem: KafkaError = ProducerClosed()
        try:
            await self._learn(topic)
            until = self._loop.time() + METADATA_S
            while waiting:
                record = waiting[0]
                sent = await self._send_parked(topic, record, until)
                sent.add_done_callback(_copy_to(record.acknowledged))
                waiting.popleft()
        except (KafkaError, TimeoutError):
            problem = UnknownTopic(topic)
            self._note_missing(topic)
        finally:
            del self._parked[topic]
            self._on_metadata(self._producer.client.cluster)
            for record in waiting:
                if not record.acknowledged.done():
                    record.acknowledged.set_exception(problem)

    async def _send_parked(self, topic: str, record: _Parked, until: float) -> asyncio.Future[Ack]:
        """Send one record that waited; its own failure comes through the future, only the topic's is raised."""
        while not self._has(topic, record.partition):
            if self._loop.time() > until:
                return self._failed(UnknownTopic(f"{topic} has no partition {record.partition}"))
            await self._refresh()
            await asyncio.sleep(_LOOK_INTERVAL_S)
        try:
            now_ms = int(self.clock.now_ms())
            return await self._producer.send(topic, record.value, record.key, record.partition, now_ms, record.headers)
        except KafkaError as error:
            return self._failed(error)

    def _has(self, topic: str, partition: int | None) -> bool:
        known = self._producer.client.cluster.partitions_for_topic(topic)
        return partition is None or (known is not None and partition in known)

    async def _refresh(self) -> None:
        async with asyncio.timeout(METADATA_S):
            await self._producer.client.force_metadata_update()

    async def _learn(self, topic: str) -> None:
        # Topics that were not added may be known all the same, from a listing of all, and be forgotten at its next one.
        self._producer.client.add_topic(topic)
        async with asyncio.timeout(METADATA_S):
            await self._producer.partitions_for(topic)
        self._learnt.add(topic)
        if topic not in self._parked:
            self._known.add(topic)

    def _note_missing(self, topic: str) -> None:
        now = self._loop.time()
        self._missing = {name: until for name, until in self._missing.items() if until > now}
        self._missing[topic] = now + MISSING_FOR_S
        self._untrack(topic)

    def _untrack(self, topic: str) -> None:
        """Stop asking for a topic: names that clients made up must not stay in each request for metadata."""
        self._learnt.discard(topic)
        tracked = self._learnt | (self._parked.keys() - {topic})
        if tracked:  # an empty set would mean all topics there are
            self._producer.client.set_topics(tracked)


def _copy_to(target: asyncio.Future[Ack]) -> Callable[[asyncio.Future[Ack]], None]:
    def copy(source: asyncio.Future[Ack]) -> None:
        if target.done():
            return
        if source.cancelled():
            target.cancel()
            return
        error = source.exception()
        if error is None:
            target.set_result(source.result())
        else:
            target.set_exception(error)

    return copy
