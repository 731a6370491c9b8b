"""The topics that what is registered needs."""

from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_system_topics, ensure_topics
from schemas.records import Task, Variant, VariantState
from schemas.topics import results_topic, task_topic, variant_topic
from store.pool import Pool
from store.registry import list_tasks, list_variants


def task_specs(task: Task) -> list[TopicSpec]:
    """Where a task's queries come in, and where results go when the client names no topic."""
    return [TopicSpec(task_topic(task.name), task.partitions), TopicSpec(results_topic(task.name), task.partitions)]


def variant_spec(variant: Variant) -> TopicSpec:
    """The queue of a variant."""
    return TopicSpec(variant_topic(variant.name), variant.partitions)


async def ensure_registered_topics(pool: Pool, kafka: KafkaSettings) -> None:
    """Create what is missing for everything registered, for a broker that is new or kept its topics in memory.

    Raises:
        OperatorError: Kafka cannot be reached, or has a topic with fewer partitions.
    """
    await ensure_system_topics(kafka)
    tasks = [spec for task in await list_tasks(pool) for spec in task_specs(task)]
    variants = await list_variants(pool, state=VariantState.READY)
    await ensure_topics(kafka, [*tasks, *map(variant_spec, variants)])
