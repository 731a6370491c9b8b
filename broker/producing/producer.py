"""Producer of records: idempotent, acknowledged by all replicas, bounded in flight, with a definite end of each record.

Rules.
* `send` returns when the record is accepted, so records of one caller to one partition keep their order. The future
  that it returns holds the acknowledgement, or the KafkaError that kept the record out. It is done soon after the
  request timeout at the latest, whatever Kafka does. A record that failed so late may have been written all the same.
* A record that may linger is sent with later records, and at the latest when its time is up or the producer is closed.
* A partition that cannot be written to, or a batch that is refused, delays no other partition (`batch_sender`).
* A record for a topic or partition that this producer does not know waits aside for a bounded time. Neither its caller
  nor records for other topics wait for a topic that may not exist. A topic that was found missing is remembered for a
  moment, and its records are refused at once.
* A record that is larger than Kafka accepts is refused before it is sent.
* Records carry the broker's time, not this machine's. In the system's own topics the broker replaces it by its append
  time.
* The embedded broker assigns no producer ids and is written to without idempotence: a record whose acknowledgement was
  lost with its connection may be written twice.

Hot: the selector calls it twice per query. `bench/` compares it with a bare aiokafka producer.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Self

from aiokafka.errors import ProducerClosed

from broker.kafka.client import RECORD_COMPRESSION, close_client, new_client, start_client
from broker.kafka.clocks import BrokerClocks
from broker.kafka.cluster import BrokerFeatures, broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import KafkaError, RecordTooLarge
from broker.producing.batch_sender import BatchSender
from broker.producing.partition_queue import choose_queue
from broker.producing.records import Ack, BatchedAck, InFlightLimit, OnAck, PendingRecord
from broker.producing.topic_lookup import TopicLookup
from schemas.headers import RawHeaders

__all__ = ["Ack", "BatchedAck", "OnAck", "Producer"]

log = logging.getLogger(__name__)

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of records in flight; fewer if `KafkaSettings.max_in_flight_bytes` is less, but room for two records."""
LEAVE_S: Final = 1.0
"""Seconds beyond the request timeout after which a producer that is closed fails the records in flight."""
_ASIDE_SHARE: Final = 2
"""Divisor: this part of the records in flight may wait for unknown topics."""
_NO_HEADERS: Final[RawHeaders] = []


class Producer:
    """Producer of records for any number of tasks of one event loop; an async context manager."""

    def __init__(self, settings: KafkaSettings, client_id: str, *, max_in_flight: int = 5000) -> None:
        self._settings = settings
        self.result_timeout_s = settings.result_timeout_s
        """See `KafkaSettings.result_timeout_s`."""
        self._client_id = client_id
        self.clock: Final = BrokerClocks()
        """Time of the brokers, learned from acknowledgements."""
        self.features: BrokerFeatures
        """Features of the broker; set when the context is entered."""
        self._timeout_s = settings.request_timeout_ms / 1000
        self._client = new_client(settings, client_id)
        most_bytes = max(min(MAX_BYTES, settings.max_in_flight_bytes), 2 * settings.max_record_bytes)
        self._limit = InFlightLimit(max_in_flight, most_bytes)
        self._sender = BatchSender(
            self._client, self._limit, compression=RECORD_COMPRESSION[settings.compression], timeout_s=self._timeout_s
        )
        self._sender.on_append = self.clock.on_append
        self._topics = TopicLookup(self._client, self._sender, max_in_flight // _ASIDE_SHARE + 1)
        self._tasks = asyncio.TaskGroup()
        self._looking: asyncio.Task[None]
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """Number of records that were accepted and have not ended."""
        return self._limit.records

    async def __aenter__(self) -> Self:
        try:
            await start_client(self._settings, self._start())
        except BaseException:
            await close_client(self._client)
            raise
        await self._tasks.__aenter__()
        self._sender.use_tasks(self._tasks)
        self._looking = self._tasks.create_task(self._topics.run(), name="look up topics")
        return self

    async def __aexit__(self, *error: object) -> None:
        """Wait for the records in flight, for little more than the request timeout; the others then fail."""
        self._sender.linger_no_more()
        try:
            async with asyncio.timeout(self._timeout_s + LEAVE_S):
                await self._limit.idle()
        except TimeoutError:
            log.warning("%d records were not acknowledged before the end", self.in_flight)
        finally:
            self._closed = True
            self._looking.cancel()
            self._topics.close(ProducerClosed())
            self._sender.close(ProducerClosed())
            try:
                await self._tasks.__aexit__(None, None, None)
            finally:
                await close_client(self._client)

    async def prefetch_metadata(self, topics: Iterable[str], *, refresh: bool = False) -> None:
        """Fetch the metadata of topics before the first record is sent to them; missing topics are skipped.

        `refresh` also fetches the metadata of known topics, which may have more partitions now.
        """
        if refresh:
            try:
                await self._topics.refresh()
            except TimeoutError:  # a record for an unknown partition waits for it
                log.warning("cannot read the partitions from Kafka")
        await self._topics.prefetch(topics)

    async def topics(self) -> set[str]:
        """Return the names of all topics.

        The request names no topic, since some brokers create each topic that a request names.

        Raises:
            KafkaError: Kafka does not answer.
        """
        return (await self._client.fetch_all_metadata()).topics()

    def acknowledging_s(self) -> float:
        """Return for how many seconds Kafka has been acknowledging records of any topic; 0 if it is not known to."""
        return self._sender.acknowledging_s()

    def now_ms(self) -> float:
        """Return the broker's time in milliseconds since the epoch."""
        return self.clock.now_ms()

    def offset_ms(self, topic: str, partition: int) -> float:
        """Return the offset of the clock of a partition's leader to the monotonic clock, in milliseconds."""
        queues = self._topics.ready.get(topic)
        leader = None if queues is None or partition >= len(queues) else queues[partition].leader
        return self.clock.offset_of(leader)

    async def post(
        self,
        topic: str,
        value: bytes | None,
        on_ack: OnAck,
        *,
        key: bytes | None = None,
        headers: RawHeaders = _NO_HEADERS,
        partition: int | None = None,
        linger_s: float = 0.0,
    ) -> None:
        """Send a record; wait while too many records or bytes are not acknowledged.

        The record may linger for `linger_s` seconds to be sent with others. `on_ack` is called once: with the
        acknowledgement, or with a KafkaError if the record is too large, its topic or partition does not exist, or
        Kafka has not acknowledged it within the request timeout. A `BatchedAck` is acknowledged with its batch.
        """
        now = self._loop.time()
        deadline = now + self._timeout_s
        record = PendingRecord(value, key, headers, int(self.clock.now_ms()), deadline, on_ack)
        size = record.size
        if size > self._settings.max_record_bytes:
            error = RecordTooLarge(f"{size} bytes, more than the {self._settings.max_record_bytes} that Kafka accepts")
            on_ack(error)
            return
        if not self._limit.try_take(size):
            await self._limit.take_in_turn(size)
            record.deadline = self._loop.time() + self._timeout_s
        queues = self._topics.ready.get(topic)
        if self._closed:
            self._sender.settle(record, ProducerClosed())
        elif queues is None and (refusal := self._topics.refusal(topic)) is not None:
            self._sender.settle(record, refusal)
        elif queues is None or (partition is not None and partition >= len(queues)):
            self._topics.put_aside(topic, record, partition)
        else:
            self._sender.add(choose_queue(queues, key, partition), record, now + linger_s if linger_s else 0.0)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: RawHeaders = _NO_HEADERS,
        partition: int | None = None,
        linger_s: float = 0.0,
    ) -> asyncio.Future[Ack]:
        """Send a record as `post` does; return the future of its acknowledgement.

        Cancelling the future does not undo it.
        """
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()

        def on_ack(outcome: Ack | KafkaError) -> None:
            if future.done():
                return
            if isinstance(outcome, Ack):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        await self.post(topic, value, on_ack, key=key, headers=headers, partition=partition, linger_s=linger_s)
        return future

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
            KafkaError: the record was not acknowledged; see `post`.
        """
        return await (await self.send(topic, value, key=key, headers=headers, partition=partition))

    async def learn_time(self, topic: str, value: bytes | None = None) -> None:
        """Write a record whose acknowledgement tells the broker's time, before anything depends on that time."""
        try:
            await self.send_and_wait(topic, value, key=self._client_id.encode())
        except KafkaError as error:
            log.warning("the broker's time is not known yet: %r", error)

    async def _start(self) -> None:
        self.features = await broker_features(self._settings)
        self._sender.idempotent = self.features.idempotence
        await self._client.bootstrap()
