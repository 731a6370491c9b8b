"""Creates, grows and drains the topics of registered tasks, variants and tenants.

A variant begins with one partition, since most variants have one replica, and gets more with its replicas. Each
partition costs memory and open files of Kafka, a lease, and a place in each status.

A topic grows in Kafka first and in its row second, so a reader of the row finds the partitions in Kafka. The change of
the row sends a notification: selectors and gateways learn of new partitions before anything is written to them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import (
    ensure_system_topics,
    ensure_task_topics,
    ensure_tenant_topics,
    ensure_topics,
    ensure_variant_topics,
    partitions_of,
    task_specs,
    tenant_specs,
    variant_specs,
)
from broker.lag.reader import LagReader
from broker.producing.closed_topics import close_topics
from schemas.errors import OperatorError
from schemas.rows.catalog import VariantState
from schemas.topics import OFFLINE_SELECTOR_GROUP, SELECTOR_GROUP, offline_of
from store.pool import Pool
from store.registry import grow_task, grow_variant, list_tasks, list_variants
from store.tenants import grow_tenant, list_tenants

_LOOK_S: Final = 0.2


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


async def first_partitions(kafka: KafkaSettings, replicas: int) -> int:
    """Return the number of partitions of a new variant: one, or `replicas` on a broker that can add none later.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    return 1 if (await broker_features(kafka)).growth else replicas


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


async def drain_topics(kafka: KafkaSettings, online: str, timeout_s: float) -> tuple[str, str]:
    """Close a topic of online queries and its offline topic, and wait until all queries in them are answered.

    Returns:
        Both topics.

    Raises:
        KafkaError: Kafka refuses a request.
        OperatorError: the queries are not answered within the time, or Kafka cannot be reached.
    """
    queries = online, offline_of(online)
    await close_topics(kafka, queries)
    there = {partition.topic for partition in await partitions_of(kafka, queries)}
    groups = {SELECTOR_GROUP: queries[:1], OFFLINE_SELECTOR_GROUP: queries[1:]}
    groups = {group: topics for group, topics in groups.items() if there.issuperset(topics)}
    async with LagReader(kafka) as reader:

        async def answered() -> bool:
            reading = await reader.read_until_known(groups)
            return not any(line.lag for line in reading.partition_lags())

        await wait_until(answered, timeout_s, f"queries in {online} are not answered: does a selector run?")
    return queries


async def wait_until(condition: Callable[[], Awaitable[bool]], timeout_s: float, otherwise: str) -> None:
    """Poll until a condition holds that sends no notification.

    Raises:
        OperatorError: it does not hold within the time; `otherwise` names a likely cause.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - leases lapse, and offsets are committed, silently
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise OperatorError(f"not within {timeout_s:g} s: {otherwise}. Run the command again to resume") from None
