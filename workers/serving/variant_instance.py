"""Instance of a variant, of either kind: its partitions, and the path of its queries from the record to the queue.

    _take_in, _take_in_offline   consumers -> _queue_up -> _read: identify and decode the query -> queue of the subclass

Rules.
* All of it runs on the event loop. Only large bodies are decoded in a thread.
* Offline queries have a topic of their own with the same partitions, which move together with the online ones. They are
  read a few at a time, when the subclass has room for them.
* A query fails alone: an error in its record is answered while it is read.
* A partition that another worker took is dropped at once: its queries are not computed, its records not read.

Hot path: `_read`.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import partial
from typing import Final, Generic, TypeVar

from broker.delivery.consumer import Consumer, Record
from process.pauses import wait_within
from schemas.errors import ModelFailed, RefusalReason
from schemas.status import InstanceStatus, PartitionStatus
from schemas.topics import offline_variant_topic, variant_topic
from workers.context import WorkerContext
from workers.handover import IN_USE_S
from workers.serving.answers import InstanceAnswers, as_query_error
from workers.serving.measured_work import MeasuredWork
from workers.serving.metrics import InstanceMetrics
from workers.serving.model import ServableModel
from workers.serving.pending_query import PendingQuery
from workers.serving.spans import InstanceSpans
from workers.slots.crash_journal import RecordKey, record_key

_CHUNK: Final = 32
"""Most records read before the event loop runs other tasks."""

W = TypeVar("W", bound=MeasuredWork[RecordKey])
P = TypeVar("P")
"""Part of a query that is computed at once."""


class VariantInstance(ABC, Generic[W, P]):
    """Instance that serves from `serve()` on; `assign` sets its partitions."""

    def __init__(
        self, model: ServableModel, work: W, online: Consumer, offline: Consumer, context: WorkerContext
    ) -> None:
        self.model = model
        self.work = work
        self.partitions: frozenset[int] = frozenset()
        self._hidden: frozenset[int] = frozenset()
        self._read_s = -math.inf  # time of the last query that was read
        self._online = online
        self._offline = offline
        self._consumers = {variant_topic(model.name): online, offline_variant_topic(model.name): offline}
        """Both consumers, by topic."""
        self._context = context
        self._journal = context.journal
        self._progress = asyncio.Event()
        """Set when work has left the queue."""
        self._metrics = InstanceMetrics(model, context.answers)
        tracer = context.tracer
        self._spans = None if tracer is None else InstanceSpans(tracer, model.name, context.settings.worker)
        self._answers = InstanceAnswers(model, context, self._metrics, self._consumers, work.backlog, self._spans)

    @abstractmethod
    async def serve(self) -> None:
        """Serve until cancelled."""

    def use_model(self, model: ServableModel) -> None:
        """Use the limits and the times of this model from now on."""
        self.model = model
        self._metrics.correction.set(model.latency.correction)

    # -- input ---------------------------------------------------------------------------------------------------------

    async def _take_in(self) -> None:
        while True:
            records = await self._poll(self._online, _CHUNK)
            await self._queue_up(records)
            if len(records) == _CHUNK:  # more may be ready: let other tasks run
                await asyncio.sleep(0)

    async def _take_in_offline(self) -> None:
        while True:
            await self._queue_up_offline(await self._poll(self._offline, await self._room_for_offline()))
            await asyncio.sleep(0)

    async def _room_for_offline(self) -> int:
        """Wait until offline queries may be read. Returns how many."""
        while True:
            self._progress.clear()
            room, again_s = self._offline_room(time.monotonic())
            if room:
                return min(room, _CHUNK)
            self._offline.pause()
            await wait_within(again_s, self._progress)

    async def _poll(self, consumer: Consumer, most: int) -> list[Record]:
        records = await consumer.poll(most)
        self._read_s = time.monotonic()
        self._context.trigger.work()
        return records

    @abstractmethod
    def _offline_room(self, now_s: float) -> tuple[int, float | None]:
        """Return the number of offline queries to read now, and the seconds until there may be room without progress.

        None: there is none without progress.
        """

    @abstractmethod
    async def _queue_up(self, records: list[Record]) -> int:
        """Queue the work in records. Returns the number of inputs that were queued at once."""

    async def _queue_up_offline(self, records: list[Record]) -> None:
        await self._queue_up(records)

    async def _read(self, record: Record, *, in_thread: bool = False) -> list[P]:
        """Decode the work in a record. A record that holds none is answered or dead-lettered here."""
        query = self._answers.identify(record)
        if query is None:
            return []
        try:
            key = record_key(record)
            crashes = self._journal.crashes(key)
            if self._journal.is_given_up(key):
                message = f"the worker died {crashes} times while computing this query"
                raise ModelFailed(message, reason=RefusalReason.WORKER_CRASHED)
            offset_ms = self._consumers[record.topic].offset_ms(record)
            decode = partial(self._decode, query, offset_ms, alone=crashes > 0)
            parts = await asyncio.to_thread(decode) if in_thread else decode()
            self._arrived(key, query, parts)
        except Exception as error:  # noqa: BLE001 - a defect must fail one query, not crash the worker each time
            await self._answers.refuse(query, as_query_error(error, query, "the request could not be read"))
            return []
        return parts

    @abstractmethod
    def _decode(self, query: PendingQuery, offset_ms: float, *, alone: bool) -> list[P]:
        """Decode the parts of a query; the arguments are those of `decode_query`. Callable from any thread."""

    @abstractmethod
    def _arrived(self, key: RecordKey, query: PendingQuery, parts: list[P]) -> None:
        """Count a query that was decoded."""

    # -- partitions ----------------------------------------------------------------------------------------------------

    async def assign(self, partitions: Collection[int], drain_s: float) -> None:
        """Serve exactly these partitions. Others are drained for up to `drain_s`, committed and dropped."""
        wanted = frozenset(partitions)
        self.partitions |= wanted
        async with asyncio.TaskGroup() as tasks:
            for topic, consumer in self._consumers.items():
                tasks.create_task(consumer.assign(topic, wanted, drain_s=drain_s))
        self.drop_partitions(self.partitions - wanted)
        self._hidden = frozenset()

    @property
    def is_in_use(self) -> bool:
        """True if a query was read within the last second."""
        return time.monotonic() - self._read_s < IN_USE_S

    def hide_partitions(self, partitions: Collection[int]) -> None:
        """Leave these partitions out of the status; a call of `assign` without them must follow."""
        self._hidden = frozenset(partitions)

    def drop_partitions(self, partitions: Collection[int]) -> None:
        """Compute nothing more of these partitions: another worker owns them. A call of `assign` must follow."""
        self.partitions -= frozenset(partitions)
        if not partitions:
            return
        for consumer in self._consumers.values():
            consumer.lose(partitions)
        self._discard(partitions)
        self.work.backlog.remove_matching(lambda key: key[1] in partitions)
        self._progress.set()

    @abstractmethod
    def _discard(self, partitions: Collection[int]) -> None:
        """Take the work of these partitions out of the queue, and end it if it can be ended."""

    # -- status --------------------------------------------------------------------------------------------------------

    def status(self) -> InstanceStatus:
        """Return the current status of the instance."""
        return self.work.status(
            self.model.name,
            self._metrics,
            partitions=self._partition_status(self._online),
            offline_partitions=self._partition_status(self._offline),
            queued=self._online.in_flight + self._offline.in_flight,
        )

    def update_health(self, now_s: float) -> None:
        """Update the state once per period of the monotonic clock."""
        self.work.update_health(now_s, self._unread())

    def _unread(self) -> int:
        return sum(status.end - status.position for status in self._partition_status(self._online))

    def _partition_status(self, consumer: Consumer) -> list[PartitionStatus]:
        found: list[PartitionStatus] = []
        for partition in sorted(self.partitions - self._hidden):
            position, end = consumer.position(partition), consumer.end(partition)
            if position is not None:
                found.append(PartitionStatus(partition, position, position if end is None else end))
        return found
