"""Creates and grows the topics of registered tasks, variants and tenants.

A topic grows in Kafka first and in its row second, so a reader of the row finds the partitions in Kafka. The change of
the row sends a notification: selectors and gateways learn of new partitions before anything is written to them.
"""

from broker.settings import KafkaSettings
from broker.topics import (
    ensure_system_topics,
    ensure_task_topics,
    ensure_tenant_topics,
    ensure_topics,
    ensure_variant_topics,
    task_specs,
    tenant_specs,
    variant_specs,
)
from schemas.rows.catalog import VariantState
from store.pool import Pool
from store.registry import grow_task, grow_variant, list_tasks, list_variants
from store.tenants import grow_tenant, list_tenants


async def ensure_registered_topics(pool: Pool, kafka: KafkaSettings) -> None:
    """Create missing topics of all registered tasks, variants and tenants, for a broker that is new or lost its topics.

    Raises:
        OperatorError: Kafka cannot be reached, or cannot add missing partitions.
    """
    await ensure_system_topics(kafka)
    tasks = [
        spec for task in await list_tasks(pool) if not task.removing for spec in task_specs(task.name, task.partitions)
    ]
    ready = await list_variants(pool, state=VariantState.READY)
    variants = [spec for variant in ready for spec in variant_specs(variant.name, variant.partitions)]
    tenants = [spec for t in await list_tenants(pool) if not t.removing for spec in tenant_specs(t.name, t.partitions)]
    await ensure_topics(kafka, [*tasks, *variants, *tenants])


async def grow_variant_topics(pool: Pool, kafka: KafkaSettings, variant: str, partitions: int) -> None:
    """Allow up to `partitions` replicas to share a variant's load. Never shrinks a topic; repeating it is no error.

    Raises:
        OperatorError: Kafka cannot be reached, or cannot add partitions.
        StoreUnavailable: Postgres is unavailable; repeat the call.
    """
    await ensure_variant_topics(kafka, [(variant, partitions)])
    await grow_variant(pool, variant, partitions)


async def grow_task_topics(pool: Pool, kafka: KafkaSettings, task: str, partitions: int) -> None:
    """Allow up to `partitions` selectors to share a task. They rebalance, which delays the task's queries for a moment.

    Raises:
        OperatorError: Kafka cannot be reached, or cannot add partitions.
        StoreUnavailable: Postgres is unavailable; repeat the call.
    """
    await ensure_task_topics(kafka, task, partitions)
    await grow_task(pool, task, partitions)


async def grow_tenant_topics(pool: Pool, kafka: KafkaSettings, tenant: str, partitions: int) -> None:
    """Allow up to `partitions` selectors to share a tenant's queries.

    Raises:
        OperatorError: Kafka cannot be reached, or cannot add partitions.
        StoreUnavailable: Postgres is unavailable; repeat the call.
    """
    await ensure_tenant_topics(kafka, tenant, partitions)
    await grow_tenant(pool, tenant, partitions)
