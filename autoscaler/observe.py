"""The recorder: once a second, what the queues and the instances are like, into Postgres.

* Lag of the selectors on every task topic and of every variant's workers, in records and seconds. Variants that nobody
  serves are read in turns, some a second: there may be thousands of them, and all that can be seen there is a query
  that waits for a cold start whose demand got lost.
* Arrivals: how far the ends of a task's topic moved since the reading before. After a reading that failed, the next one
  holds the arrivals of both: none is lost, none is made up.
* Unknown is None, not zero. An outage is logged when it begins and when it ends, and counted at each reading.
"""

import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import Counter, Gauge

from autoscaler.settings import AutoscalerSettings
from autoscaler.view import View
from broker.errors import KafkaError
from broker.lag import LagReader, PartitionLag
from schemas import topics
from schemas.records import ArrivalSample, InstanceSample, LagSample
from store.catalog import Catalog
from store.errors import StoreUnavailable
from store.pool import Pool
from store.samples import prune, prune_decisions, write_arrivals, write_instances, write_lag

READINGS: Final = Counter("infaas_autoscaler_readings", "Readings of lag, arrivals and states.", ["outcome"])
LAG: Final = Gauge("kafka_consumergroup_group_lag", "Records not yet committed.", ["consumer_group", "topic"])
LAG_S: Final = Gauge(
    "kafka_consumergroup_group_lag_seconds", "Age of the oldest record not yet committed.", ["consumer_group", "topic"]
)
_TURN: Final = 100
_PRUNE_EVERY_S: Final = 60.0

log = logging.getLogger(__name__)


class Outage:
    """Says once that something fails, and once that it works again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failing = False

    def begins(self, error: BaseException) -> None:
        """It failed; said only if it worked before."""
        if not self._failing:
            log.warning("%s: %s; the scale is held until it works again", self._what, error or type(error).__name__)
        self._failing = True

    def ends(self) -> None:
        """It worked; said only if it failed before."""
        if self._failing:
            log.info("%s: works again", self._what)
        self._failing = False


class Recorder:
    """Takes one reading after another; for one task."""

    def __init__(self, settings: AutoscalerSettings, reader: LagReader, pool: Pool, view: View) -> None:
        self._settings = settings
        self._reader = reader
        self._pool = pool
        self._view = view
        self._ends: dict[str, dict[int, int]] = {}
        self._turn: list[str] = []
        self._pruned_at = datetime.min.replace(tzinfo=UTC)
        self._outage = Outage("reading lag and states")
        self.known = False
        """Whether the last reading succeeded."""

    async def record(self, catalog: Catalog, served: Collection[str]) -> None:
        """Take a reading and write it; `served` are the variants that have an instance."""
        try:
            await self._record(catalog, served)
        except (KafkaError, StoreUnavailable, OSError) as error:
            self.known = False
            READINGS.labels("failed").inc()
            self._outage.begins(error)
            return
        self.known = True
        READINGS.labels("ok").inc()
        self._outage.ends()

    async def _record(self, catalog: Catalog, served: Collection[str]) -> None:
        watched = [*served, *self._next_turn(catalog, served)]
        groups = {topics.SELECTOR_GROUP: [topics.task_topic(task) for task in catalog.tasks]}
        groups |= {topics.variant_group(name): [topics.variant_topic(name)] for name in watched}
        at = datetime.now(UTC)
        reading = await self._reader.read({group: found for group, found in groups.items() if found})
        lags = [line for line in reading.lines() if line.end is not None]
        arrivals = self._arrivals(at, catalog.tasks, lags)
        self._notice_waiting(lags, served)
        _show(lags)
        await write_lag(self._pool, [_lag_sample(at, lag) for lag in lags])
        await write_arrivals(self._pool, arrivals)
        await write_instances(self._pool, self._instances(at))
        await self._prune(at)

    def _next_turn(self, catalog: Catalog, served: Collection[str]) -> list[str]:
        if not self._turn:
            self._turn = sorted(catalog.variants)
        turn, self._turn = self._turn[:_TURN], self._turn[_TURN:]
        return [name for name in turn if name not in served]

    def _arrivals(self, at: datetime, tasks: Iterable[str], lags: list[PartitionLag]) -> list[ArrivalSample]:
        samples: list[ArrivalSample] = []
        for task in tasks:
            topic = topics.task_topic(task)
            ends = {lag.partition: lag.end or 0 for lag in lags if lag.topic == topic}
            before = self._ends.get(topic)
            if not ends:
                continue
            self._ends[topic] = ends
            # A topic that was made anew, or grew, has no reading to compare with.
            if before is not None and before.keys() == ends.keys() and all(ends[p] >= before[p] for p in ends):
                arrived = sum(ends.values()) - sum(before.values())
                samples.append(ArrivalSample(at=at, task=task, arrivals=arrived))
        return samples

    def _notice_waiting(self, lags: list[PartitionLag], served: Collection[str]) -> None:
        for lag in lags:
            variant = lag.topic.removeprefix(topics.VARIANTS)
            if lag.lag and variant != lag.topic and variant not in served:
                self._view.want(variant)

    def _instances(self, at: datetime) -> list[InstanceSample]:
        return [
            InstanceSample(
                at=at,
                variant=instance.variant,
                worker=worker,
                state=instance.state,
                queued=instance.queued,
                batch_size=instance.batch_size,
                slowdown=instance.slowdown,
                answered=instance.answered,
            )
            for worker, instance in self._view.instances()
        ]

    async def _prune(self, at: datetime) -> None:
        if at - self._pruned_at < timedelta(seconds=_PRUNE_EVERY_S):
            return
        await prune(self._pool, at - timedelta(seconds=self._settings.retention_s))
        await prune_decisions(self._pool, at - timedelta(seconds=self._settings.decisions_retention_s))
        self._pruned_at = at


def _lag_sample(at: datetime, lag: PartitionLag) -> LagSample:
    return LagSample(
        at=at,
        consumer_group=lag.group,
        topic=lag.topic,
        partition=lag.partition,
        end_offset=lag.end or 0,
        committed=lag.committed,
        lag=lag.lag,
        lag_s=lag.lag_s,
    )


def _show(lags: list[PartitionLag]) -> None:
    """Export what is known; a group of which something is unknown shows no number rather than a wrong one."""
    by_group: dict[tuple[str, str], list[PartitionLag]] = {}
    for lag in lags:
        by_group.setdefault((lag.group, lag.topic), []).append(lag)
    for labels, members in by_group.items():
        records = [lag.lag for lag in members if lag.lag is not None]
        seconds = [lag.lag_s for lag in members if lag.lag_s is not None]
        complete = len(records) == len(seconds) == len(members)
        LAG.labels(*labels).set(sum(records) if complete else float("nan"))
        LAG_S.labels(*labels).set(max(seconds) if complete else float("nan"))
