"""Writes a plan to Postgres, under the leader's lock, and adds the partitions that topics need.

A variant's topic has a partition per replica. The topics of tasks and tenants have two per selector: selectors share a
topic by its partitions, and with two each, their shares of the load are about equal.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from prometheus_client import Counter

from autoscaler.decide.placement_builder import partition_count
from autoscaler.decide.plan import ScalePlan
from broker.kafka.settings import KafkaSettings
from registry.topics import grow_task_topics, grow_tenant_topics, grow_variant_topics
from schemas.catalog import Catalog
from schemas.rows.cluster import DecisionKind, DecisionRow
from store.leader import Leadership
from store.placement import change_placement
from store.pool import Pool
from store.scaling import drain_workers, put_wanted

CHANGES: Final = Counter("infaas_autoscaler_changes", "Changes of the wanted state.", ["action"])
_PARTITIONS_A_SELECTOR: Final = 2

log = logging.getLogger(__name__)


async def write_plan(plan: ScalePlan, policy: str, lead: Leadership) -> None:
    """Write all rows of a plan, or none if the leadership is lost.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
        StoreConflict: a variant or worker of the plan has been removed meanwhile.
    """
    decisions = list(decision_rows(plan, policy))
    if not decisions:
        return
    async with lead.transaction() as session:
        if plan.workers:
            await put_wanted(session, plan.workers)
        if plan.drain:
            await drain_workers(session, plan.drain)
        await change_placement(
            session,
            put=[change.wanted for change in plan.changes if change.wanted is not None],
            delete=[(change.variant, change.worker) for change in plan.changes if change.wanted is None],
            decisions=decisions,
        )
    for row in decisions:
        CHANGES.labels(row.action).inc()
        what = " on ".join(filter(None, (row.variant, row.worker or row.hardware)))
        log.info("%s %s: %s", row.action, what, row.reason)


def decision_rows(plan: ScalePlan, policy: str) -> Iterator[DecisionRow]:
    """Yield the decision rows of a plan, one for each change, in the plan's order."""
    row = partial(DecisionRow, at=datetime.now(UTC), policy=policy, explanation=plan.explanation)
    for change in plan.changes:
        yield row(
            kind=DecisionKind.INSTANCE,
            action=change.action,
            variant=change.variant,
            worker=change.worker,
            reason=change.reason,
            inputs=change.inputs,
        )
    for change in plan.workers:
        yield row(
            kind=DecisionKind.WORKER,
            action="want",
            hardware=change.hardware,
            reason=change.reason,
            inputs={"count": change.count},
        )
    for worker in plan.drain:
        yield row(
            kind=DecisionKind.WORKER,
            action="drain",
            worker=worker,
            reason="the worker drains; its instances move to others",
        )


async def grow_topics(
    partitions: Mapping[str, int], catalog: Catalog, selectors: int, pool: Pool, kafka: KafkaSettings
) -> None:
    """Grow the topics of variants to these numbers of partitions, and those of tasks and tenants to two per selector.

    Args:
        partitions: numbers of partitions, by variant.
        catalog: the registered tasks and tenants.
        selectors: number of selectors; 0 changes the topics of variants only.
        pool: connections to Postgres.
        kafka: connection to Kafka.

    Raises:
        OperatorError: Kafka refused to add partitions.
        StoreUnavailable: Postgres cannot be reached.
    """
    for variant, count in partitions.items():
        await grow_variant_topics(pool, kafka, variant, count)
    for task in catalog.tasks.values():
        count = partition_count(_PARTITIONS_A_SELECTOR * selectors, task.partitions)
        if count > task.partitions:
            log.info("growing to %d partitions from %d for %s", count, task.partitions, task.name)
            await grow_task_topics(pool, kafka, task.name, count)
    for tenant in catalog.tenants.values():
        count = partition_count(_PARTITIONS_A_SELECTOR * selectors, tenant.partitions)
        if count > tenant.partitions and not tenant.removing:
            log.info("growing to %d partitions from %d for tenant %s", count, tenant.partitions, tenant.name)
            await grow_tenant_topics(pool, kafka, tenant.name, count)
