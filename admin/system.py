"""Health of the system: a short report that shows if an administrator must act, and the consumer lag."""

from collections import Counter
from datetime import UTC, datetime
from typing import Final

import msgspec

from admin.api import Empty, RequestContext, endpoint
from broker.kafka.cluster import KafkaReachability
from process.version import version
from schemas.access import Role
from schemas.rows.catalog import VariantState
from schemas.rows.cluster import ClusterRows
from schemas.rows.samples import AlarmKind, LagSample, TopicAlarm
from schemas.status import InstanceState
from store.jobs import job_backlog
from store.pool import Pool
from store.registry import list_architectures, list_tasks, list_variants
from store.samples import latest_lag, present_s, reading_at, reading_error, topic_alarms
from store.scaling import read_cluster

STALE_S: Final = 10.0
"""Age in seconds from which a recorded lag is reported as stale."""


class LagReport(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of the consumers of each topic, as last recorded."""

    at: datetime
    """Present time by the database's clock, because the reader's clock may be wrong."""
    alarms: list[str]
    """Reasons why the recorded lag may be out of date, and problems with topics; empty: no problem is known."""
    lag: list[LagSample]


@endpoint("lag.show", "GET", "/v1/lag", Role.ADMIN)
async def lag(context: RequestContext, _request: Empty) -> LagReport:
    """Show the last reading of consumer lag, in records and seconds, and its health. Unknown is null, never 0."""
    now, alarms = await lag_alarms(context.pool)
    return LagReport(at=now, alarms=alarms, lag=await latest_lag(context.pool))


async def lag_alarms(pool: Pool) -> tuple[datetime, list[str]]:
    """Return the present time by the database's clock, and the alarms about the lag and topics."""
    read_at, error = await reading_at(pool), await reading_error(pool)
    now = datetime.fromtimestamp(await present_s(pool), UTC)
    return now, [*_alarms(read_at, error, now), *map(_alarm_text, await topic_alarms(pool))]


def _alarms(read_at: datetime | None, error: str, now: datetime) -> list[str]:
    """Return alarms about the reading itself."""
    if error:
        return [f"cannot read the lag, so scaling is suspended: {error}"]
    if read_at is not None and (age_s := (now - read_at).total_seconds()) > STALE_S:
        return [f"the last lag reading is {age_s:.0f} s old: does an autoscaler run?"]
    return []


def _alarm_text(alarm: TopicAlarm) -> str:
    if alarm.kind is AlarmKind.LOST:
        return f"{alarm.topic} lost {alarm.amount:,} unfinished records, the last at {alarm.at:%F %T %Z}"
    return f"{alarm.topic} takes {alarm.amount / 1e9:.1f} GB: is it being processed?"


class SystemReport(msgspec.Struct, frozen=True, kw_only=True):
    """Contents and problems of the system."""

    version: str
    """Version of the process that answers."""
    problems: list[str]
    """Problems that a person should examine; empty: none."""
    paused: bool
    """True if a person has paused scaling."""
    tasks: int
    models: int
    """Number of models; every version counts."""
    variants: int
    """Number of variants that may serve queries."""
    workers: int
    """Number of workers that are alive and not draining."""
    workers_wanted: int | None
    """Number of workers that the autoscaler wants; null: no autoscaler starts workers."""
    instances: dict[str, int]
    """Number of instances by state."""
    jobs: int
    """Number of jobs that have not ended."""


@endpoint("system.status", "GET", "/v1/status", Role.ADMIN)
async def status(context: RequestContext, _request: Empty) -> SystemReport:
    """Show the status of the system and its problems."""
    pool = context.pool
    cluster, (_, alarms) = await read_cluster(pool), await lag_alarms(pool)
    kafka = await KafkaReachability(context.find_kafka()).problem()
    return SystemReport(
        version=version(),
        problems=[*([kafka] if kafka else []), *alarms, *cluster_problems(cluster)],
        paused=cluster.control.paused,
        tasks=len(await list_tasks(pool)),
        models=len(await list_architectures(pool)),
        variants=len(await list_variants(pool, state=VariantState.READY)),
        workers=sum(worker.alive and not worker.draining for worker in cluster.workers),
        workers_wanted=sum(row.count for row in cluster.wanted) if cluster.wanted else None,
        instances=dict(Counter(row.state.value for row in cluster.instances)),
        jobs=(await job_backlog(pool)).jobs,
    )


def cluster_problems(cluster: ClusterRows) -> list[str]:
    """Return the problems of workers and instances."""
    failed = [f"{r.variant} on {r.worker}: {r.reason}" for r in cluster.instances if r.state is InstanceState.FAILED]
    if not any(worker.alive for worker in cluster.workers):
        return [*failed, "no worker is alive"]
    return failed


LAG: Final = (lag,)
SYSTEM: Final = (status,)
