"""Writes the state of queues, instances and workers to Postgres, once a second.

* Lag of selectors on all topics of tasks, and of workers on all topics of variants, online and offline, in records and
  seconds, with health: one row that holds the changes.
* Arrivals and completions by load class, as counted by selectors and workers, answer times by task, and the work of
  instances. A reading is written completely or not at all. After a failure the next one includes the missed counts; no
  count is lost or invented.
* Unknown is not zero. A failed reading is logged at the begin and the end of the outage, counted, shown as
  `infaas_autoscaler_blind`, and written as a row with the reason; scaling is held.
* Records deleted before they were finished are counted as lost, logged and stored; they are neither finished nor
  waiting.
* Each minute is summed when it is over, and table partitions are created and dropped.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from prometheus_client import Counter, Gauge

from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.snapshot_builder import TopicBacklog
from autoscaler.observe.status_cache import WorkerStatusCache
from autoscaler.record.answer_times import AnswerTimesSampler
from autoscaler.record.dated_work import DatedWorkReader
from autoscaler.record.group_health import GroupGauges
from autoscaler.record.instance_samples import InstanceSampler, worker_samples
from autoscaler.record.lag_delta import MINUTE, LagDeltaEncoder, LossCounter, accounted_in, minute_of
from autoscaler.settings import AutoscalerSettings
from broker.kafka.types import KafkaError
from broker.lag.reader import LagObservation, LagReader
from process.outages import FailureLog
from schemas import topics
from schemas.catalog import Catalog
from schemas.jobs import DatedWork
from schemas.load_classes import ClassAnswers, ClassCount, LoadClass
from schemas.rows.samples import AnswerTimesSample, InstanceSample, LagReading, LoadSample
from store import samples
from store.audit import prune_acts
from store.errors import StoreUnavailable
from store.pool import Pool

log = logging.getLogger(__name__)

READINGS: Final = Counter("infaas_autoscaler_readings", "Readings of lag, arrivals and states.", ["outcome"])
LOST: Final = Counter(
    "infaas_lost_records", "Records deleted before their group had committed them.", ["consumer_group", "topic"]
)
BLIND: Final = Gauge("infaas_autoscaler_blind", "1 while readings fail and scaling is suspended.")


class Recorder:
    """Recorder of one reading after another. It must not be called by two asyncio tasks at a time."""

    def __init__(
        self, settings: AutoscalerSettings, reader: LagReader, pool: Pool, statuses: WorkerStatusCache,
        load_window: LoadWindow, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._reader = reader
        self._pool = pool
        self._statuses = statuses
        self._load_window = load_window
        self._clock = clock
        self._catalog: Catalog | None = None
        self._groups: dict[str, list[str]] = {}
        self._encoder: LagDeltaEncoder | None = None
        self._gauges = GroupGauges(())
        self._losses = LossCounter((), {})
        self._sampler = InstanceSampler()
        self.answer_times = AnswerTimesSampler()
        self._load: list[LoadSample] = []
        self._times: list[AnswerTimesSample] = []
        self._instances: list[InstanceSample] = []
        self._lost: dict[str, int] = {}
        """Not written yet. A later failure must come before new counts are added to these."""
        self._minute: datetime | None = None
        self._failures = FailureLog("reading lag and states", "scaling is suspended")
        self.waiting = dict[str, TopicBacklog]()
        """Waiting records at the last reading, by topic."""
        self._dated_work = DatedWorkReader(pool)
        self.dated = list[DatedWork]()
        """Offline work with a deadline at the last reading."""
        self.known = False
        """True if the last reading succeeded."""
        self.reading: LagObservation | None = None
        """The last reading of the lag; None unless it succeeded."""

    async def record(self, catalog: Catalog, served: Collection[str]) -> None:
        """Take a reading and write it; `served` are the variants with an instance."""
        try:
            await self._record(catalog, served)
        except (KafkaError, StoreUnavailable, OSError) as error:
            self.known, self.reading = False, None
            READINGS.labels("failed").inc()
            BLIND.set(1)
            self._failures.failed(error)
            if self._encoder is not None:
                self._encoder.reset()
            await self._write_failure(error)
            return
        self.known = True
        READINGS.labels("ok").inc()
        BLIND.set(0)
        self._failures.recovered()

    async def _record(self, catalog: Catalog, served: Collection[str]) -> None:
        reading = await self._reader.read(self._groups_of(catalog))
        at, now_s = datetime.fromtimestamp(reading.at_s, UTC), self._clock()
        await self._maintain(at)
        self.dated = await self._dated_work.read(now_s)
        encoder = await self._encoder_of(reading)
        workers = self._statuses.latest()
        healths = encoder.judge(reading, workers, selectors=self._load_window.has_selectors(now_s))
        self._gauges.show(reading, healths)
        self._count_losses(reading)
        self._load_window.tick(now_s)
        self.waiting = encoder.waiting(reading, self.waiting)
        queued = {variant for topic in self.waiting if (variant := topics.variant_of(topic)) is not None}
        self._statuses.mark_waiting(queued, served)
        row, minute = encoder.encode(at, reading, healths)
        self._load += _load_samples(at, self._load_window.take_arrivals(), self._load_window.take_answers())
        self._times += self.answer_times.samples(at)
        self._instances += self._sampler.samples(at, workers)
        async with self._pool.transaction() as session:
            await samples.write_reading(session, row)
            await samples.add_losses(session, at, self._lost)
            on_workers = worker_samples(at, workers, self._load_window.worker_loads())
            for rows in ([minute] if minute else [], self._load, self._times, self._instances, on_workers):
                await samples.write_samples(session, rows)
        self._load, self._times, self._instances, self._lost = [], [], [], {}
        self.reading = reading

    def _count_losses(self, reading: LagObservation) -> None:
        lost = self._losses.count(reading)
        for row in np.flatnonzero(lost).tolist():
            group, topic, partition = reading.group_partitions[row]
            count = int(lost[row])
            log.error("%d records of %s/%d were deleted before group %s committed them", count, topic, partition, group)
            LOST.labels(group, topic).inc(count)
            self._lost[topic] = self._lost.get(topic, 0) + count

    def _groups_of(self, catalog: Catalog) -> Mapping[str, Collection[str]]:
        if catalog is not self._catalog:
            self._catalog = catalog
            self._reader.expire_metadata()
            asked = [topics.task_topic(task) for task in catalog.tasks]
            asked += [topics.ingress_topic(name) for name, tenant in catalog.tenants.items() if not tenant.removing]
            self._groups = {
                topics.SELECTOR_GROUP: asked,
                topics.OFFLINE_SELECTOR_GROUP: [topics.LANES, *map(topics.offline_of, asked)],
                topics.JOBS_GROUP: [topics.JOB_RESULTS],
            }
            for name in catalog.variants:
                self._groups.setdefault(topics.variant_group(name), []).extend(topics.variant_topics(name))
        return self._groups

    async def _encoder_of(self, reading: LagObservation) -> LagDeltaEncoder:
        if self._encoder is None or self._encoder.group_partitions != reading.group_partitions:
            accounted = self._losses.accounted or accounted_in(await samples.latest_lag(self._pool))
            self._encoder = LagDeltaEncoder(
                reading, await samples.group_partition_ids(self._pool, reading.group_partitions)
            )
            self._gauges = GroupGauges(reading.group_partitions)
            self._losses = LossCounter(reading.group_partitions, accounted)
        return self._encoder

    async def _maintain(self, at: datetime) -> None:
        """Once a minute, maintain the tables and sum the previous minute."""
        minute = minute_of(at)
        if minute == self._minute:
            return
        settings = self._settings
        await samples.maintain_partitions(self._pool, at, settings.retention_s, settings.minute_retention_s)
        await samples.prune_decisions(self._pool, at - timedelta(seconds=settings.decisions_retention_s))
        await prune_acts(self._pool, at - timedelta(seconds=settings.audit_retention_s))
        await samples.prune_losses(self._pool, at - timedelta(seconds=settings.minute_retention_s))
        await samples.roll_up(self._pool, minute - MINUTE)
        self._minute = minute

    async def _write_failure(self, error: BaseException) -> None:
        # The time is the broker's, so that rows of several leaders and of failures stay in order.
        at = datetime.fromtimestamp(self._reader.clock.now_ms() / 1e3, UTC)
        row = LagReading(at=at, whole=False, error=str(error) or type(error).__name__)
        with suppress(StoreUnavailable):  # then only log and gauges can report it
            await samples.write_reading(self._pool, row)


def _load_samples(at: datetime, arrived: Iterable[ClassCount], answered: Iterable[ClassAnswers]) -> list[LoadSample]:
    arrivals = {count.load_class: count for count in arrived}
    answers = {count.load_class: count for count in answered}
    return [
        _load_sample(at, arrivals.get(found) or ClassCount(load_class=found), answers.get(found) or ClassAnswers(found))
        for found in arrivals | answers
    ]


def _load_sample(at: datetime, arrived: ClassCount, answered: ClassAnswers) -> LoadSample:
    load_class: LoadClass = arrived.load_class
    return LoadSample(
        at=at,
        task=load_class.task,
        target=load_class.target,
        min_accuracy=load_class.min_accuracy,
        latency_ms=load_class.latency_ms,
        offline=load_class.offline,
        queries=arrived.queries,
        inputs=arrived.inputs,
        refused=arrived.refused,
        upgraded=arrived.upgraded,
        capped=arrived.capped,
        max_costs=arrived.max_costs,
        answered=answered.queries,
        late=answered.late,
        failed=answered.failed,
    )
