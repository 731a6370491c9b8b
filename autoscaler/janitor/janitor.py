"""Deletes finished records, abandoned reply topics and old builds, and raises alarms for large topics.

* Records of work below the committed offsets, every half a minute by default, as Kafka Streams does with its
  repartition topics: the topics themselves have no retention. Kafka frees disk space by whole segments, and closes a
  segment only at a write. In idle partitions a record that no consumer sees is written for that
  (`broker/topic_logs.py`).
* Reply topics of clients and gateways that were killed.
* The configuration of topics that an older version created, at the start of the term.
* Builds older than a day, e.g. because no worker of their hardware came; no registration waits for them any more.
* Sizes of work topics: nothing else bounds them, so a size over the limit raises an alarm. Dead letters are bounded;
  near the bound an alarm tells that the oldest are about to be deleted.

Failed steps are retried; until then topics grow, without other effects.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter, Gauge

from autoscaler.janitor.trimming import ReplyTopicWatch, idle_ends, trimmable
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import correct_topics
from broker.kafka.types import KafkaError, TopicPartition
from broker.lag.reader import LagObservation
from broker.topic_logs import bytes_on_disk, delete_before, roll_segments, topic_ends, topic_names
from process.outages import FailureLog
from schemas.errors import OperatorError
from schemas.rows.registrations import BUILDS_KEPT_S
from schemas.topics import DEAD_LETTERS, INGRESS, JOB_RESULTS, LANES, REPLIES, TASKS, TENANTS, VARIANTS, is_reply_topic
from store.builds import forget_builds
from store.errors import StoreUnavailable
from store.pool import Pool
from store.samples import put_large_topics

log = logging.getLogger(__name__)

TRIMMED: Final = Counter("infaas_trimmed_partitions", "Partitions whose finished records were deleted.")
BYTES: Final = Gauge("infaas_topic_bytes", "Bytes of one replica of a work topic, or of dead letters.", ["topic"])
LETTERS_LIMIT: Final = Gauge(
    "infaas_dead_letters_limit_bytes", "Bytes of dead letters above which the oldest are deleted."
)
_NEAR: Final = 0.8
"""Share of the byte limit of dead letters from which on there is an alarm."""
ABANDONED: Final = Counter("infaas_abandoned_reply_topics", "Reply topics deleted because their owner has ended.")

_IDLE_BYTES: Final = 1024 * 1024
"""Bytes on disk that an idle partition may have before its segment is closed."""


class Janitor:
    """Janitor of one term of leadership; `reading` returns the latest lag, or None before the first."""

    def __init__(
        self, settings: AutoscalerSettings, kafka: KafkaSettings, pool: Pool,
        reading: Callable[[], LagObservation | None], *, can_trim: bool, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._kafka = kafka
        self._pool = pool
        self._reading = reading
        self._can_trim = can_trim
        self._clock = clock
        self._trimmed: dict[TopicPartition, int] = {}
        self._watch = ReplyTopicWatch(settings.reply_topic_age_s, 3 * settings.sweep_interval_s)
        self._large: set[str] = set()
        self._idle: dict[TopicPartition, int] = {}
        """End offsets of partitions that were idle at the last sweep."""

    async def run(self) -> None:
        """Trim and sweep until cancelled, one after the other."""
        swept_s = -self._settings.sweep_interval_s
        trimming, sweeping = (
            FailureLog("trimming topics", "topics grow"),
            FailureLog("sweeping topics", "topics are kept"),
        )
        correcting, corrected = FailureLog("correcting topics", "configuration stays unchanged"), not self._can_trim
        while True:
            if not corrected:
                corrected = await _tried(self.correct, correcting)
            if self._can_trim:
                await _tried(self.trim, trimming)
            if self._clock() - swept_s >= self._settings.sweep_interval_s:
                swept_s = self._clock()
                await _tried(self.sweep, sweeping)
            await asyncio.sleep(min(self._settings.trim_interval_s, self._settings.sweep_interval_s))

    async def correct(self) -> None:
        """Set the current configuration on topics of work and of dead letters."""
        await correct_topics(self._kafka, [*await self._work(), DEAD_LETTERS])

    async def trim(self) -> None:
        """Delete the records of work that the last reading shows as committed."""
        reading = self._reading()
        if reading is None:
            return
        offsets = trimmable(reading, self._trimmed)
        done = await delete_before(self._kafka, offsets)
        there = {TopicPartition(topic, number) for _, topic, number in reading.group_partitions}
        known = self._trimmed | {partition: offsets[partition] for partition in done}
        self._trimmed = {partition: offset for partition, offset in known.items() if partition in there}
        TRIMMED.inc(len(done))

    async def sweep(self) -> None:
        """Delete abandoned reply topics and old builds, and raise alarms for large topics."""
        replies = [topic for topic in await topic_names(self._kafka, REPLIES, TENANTS) if is_reply_topic(topic)]
        abandoned = self._watch.abandoned(await topic_ends(self._kafka, replies), self._clock())
        if abandoned:
            log.info("deleting %d unclaimed reply topics: %s", len(abandoned), abandoned[:3])
            await delete_topics(self._kafka, abandoned)
            ABANDONED.inc(len(abandoned))
        await forget_builds(self._pool, BUILDS_KEPT_S)
        if self._can_trim:  # this feature also reports topic sizes
            await self._weigh()

    async def _weigh(self) -> None:
        by_partition = await bytes_on_disk(self._kafka, [*await self._work(), DEAD_LETTERS])
        sizes = defaultdict[str, int](int)
        for partition, size in by_partition.items():
            sizes[partition.topic] += size
        BYTES.clear()
        LETTERS_LIMIT.set(self._kafka.dead_letter_retention_bytes)
        for topic, size in sizes.items():
            BYTES.labels(topic).set(size)
        limit, letters = self._settings.topic_alarm_bytes, self._kafka.dead_letter_retention_bytes
        limits = dict.fromkeys(sizes, limit) | {DEAD_LETTERS: int(_NEAR * letters)}
        large = {topic: size for topic, size in sizes.items() if size > limits[topic]}
        for topic in large.keys() - self._large:
            what = f"of at most {letters}, above which the oldest are deleted: see `infaas dead-letters`"
            what = what if topic == DEAD_LETTERS else f"more than {limit}: is it being processed?"
            log.error("%s takes %d bytes, %s", topic, large[topic], what)
        self._large = set(large)
        await put_large_topics(self._pool, datetime.now(UTC), large)
        await self._end_segments(by_partition)

    async def _end_segments(self, sizes: Mapping[TopicPartition, int]) -> None:
        """Close the segments of partitions that were idle since the last sweep and hold finished records on disk."""
        reading, before = self._reading(), self._idle
        if reading is None:
            return
        self._idle = idle_ends(reading, self._trimmed)
        ends = {
            partition: end
            for partition, end in self._idle.items()
            if before.get(partition) == end and sizes.get(partition, 0) > _IDLE_BYTES
        }
        if ends:
            groups = defaultdict[str, list[TopicPartition]](list)
            for group, topic, number in reading.group_partitions:
                if (partition := TopicPartition(topic, number)) in ends:
                    groups[group].append(partition)
            log.info("closing the segments of %d idle partitions with finished records", len(ends))
            await roll_segments(self._kafka, ends, groups)

    async def _work(self) -> list[str]:
        return await topic_names(self._kafka, TASKS, INGRESS, VARIANTS, JOB_RESULTS, LANES)


async def _tried(step: Callable[[], Awaitable[None]], failures: FailureLog) -> bool:
    try:
        await step()
    except (KafkaError, OSError, OperatorError, StoreUnavailable) as error:
        failures.failed(error)
        return False
    failures.recovered()
    return True
