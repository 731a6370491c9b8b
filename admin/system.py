"""Health summary of the system."""

from collections import Counter
from typing import Final

from admin import lag
from admin.binding import bind
from admin.control import RequestContext
from broker.reachability import KafkaReachability
from process.version import version
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.system import SYSTEM, SystemReport
from schemas.rows.catalog import VariantState
from schemas.rows.cluster import ClusterRows
from schemas.status import InstanceState
from store.cluster import read_cluster
from store.jobs import job_backlog
from store.registry import list_architectures, list_tasks, list_variants


async def status(control: RequestContext, _request: Empty) -> SystemReport:
    """Return a report from the state of Kafka, Postgres and the system's records in Postgres."""
    pool = control.pool
    cluster, report = await read_cluster(pool), await lag.show(control, Empty())
    kafka = await KafkaReachability(control.find_kafka()).problem()
    return SystemReport(
        version=version(),
        problems=[*([kafka] if kafka else []), *report.alarms, *_problems(cluster)],
        paused=cluster.control.paused,
        tasks=len(await list_tasks(pool)),
        models=len(await list_architectures(pool)),
        variants=len(await list_variants(pool, state=VariantState.READY)),
        workers=sum(worker.alive and not worker.draining for worker in cluster.workers),
        workers_wanted=sum(row.count for row in cluster.wanted) if cluster.wanted else None,
        instances=dict(Counter(row.state.value for row in cluster.instances)),
        jobs=(await job_backlog(pool)).jobs,
    )


def _problems(cluster: ClusterRows) -> list[str]:
    """Return the problems of workers and instances."""
    failed = [f"{r.variant} on {r.worker}: {r.reason}" for r in cluster.instances if r.state is InstanceState.FAILED]
    if not any(worker.alive for worker in cluster.workers):
        return [*failed, "no worker is alive"]
    return failed


BINDINGS: Final = (bind(SYSTEM, status),)
