"""Adds partitions to topics: one per replica of a variant, and two per selector for the topics of tasks and tenants."""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.decide.partitions import partition_count
from broker.settings import KafkaSettings
from registry.topics import grow_task_topics, grow_tenant_topics, grow_variant_topics
from schemas.rows.catalog import Task
from schemas.rows.tenants import Tenant
from store.pool import Pool

_PARTITIONS_A_SELECTOR: Final = 2

log = logging.getLogger(__name__)


async def grow_variants(partitions: Mapping[str, int], pool: Pool, kafka: KafkaSettings) -> None:
    """Grow the topics of variants to these numbers of partitions.

    Raises:
        OperatorError: Kafka refused to add partitions.
        StoreUnavailable: Postgres cannot be reached.
    """
    for variant, count in partitions.items():
        await grow_variant_topics(pool, kafka, variant, count)


async def grow_tasks(tasks: Iterable[Task], selectors: int, pool: Pool, kafka: KafkaSettings) -> None:
    """Grow the topics of tasks to two partitions per selector.

    Selectors share a task by its partitions; with two each, their shares of the load are about equal.

    Raises:
        OperatorError: Kafka refused to add partitions.
        StoreUnavailable: Postgres cannot be reached.
    """
    for task in tasks:
        partitions = partition_count(_PARTITIONS_A_SELECTOR * selectors, task.partitions)
        if partitions > task.partitions:
            log.info("growing to %d partitions from %d for %s", partitions, task.partitions, task.name)
            await grow_task_topics(pool, kafka, task.name, partitions)


async def grow_tenants(tenants: Iterable[Tenant], selectors: int, pool: Pool, kafka: KafkaSettings) -> None:
    """Grow the topics of tenants to two partitions per selector, like those of tasks.

    Raises:
        OperatorError: Kafka refused to add partitions.
        StoreUnavailable: Postgres cannot be reached.
    """
    for tenant in tenants:
        partitions = partition_count(_PARTITIONS_A_SELECTOR * selectors, tenant.partitions)
        if partitions > tenant.partitions and not tenant.removing:
            log.info("growing to %d partitions from %d for tenant %s", partitions, tenant.partitions, tenant.name)
            await grow_tenant_topics(pool, kafka, tenant.name, partitions)
