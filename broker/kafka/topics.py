"""Topics of services: creates them, corrects and grows existing ones, and waits for them.

Topics are ensured at registration, so that later code never meets a topic that is not ready. The functions are
idempotent: an existing topic stays as it is, but gets missing partitions, and the configuration that its kind must have
(`broker.kafka.topic_lifecycle`). Partitions are never removed. The embedded broker cannot add any. All functions raise
`OperatorError` if Kafka cannot be reached, or does not answer.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping

import msgspec
from aiokafka import TopicPartition
from confluent_kafka import KafkaError
from confluent_kafka.admin import NewPartitions

from broker.kafka.admin import (
    RefusedRequest,
    UnsupportedRequest,
    answered,
    open_librdkafka_admin,
    read_configs,
    set_configs,
)
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import (
    CHECK_INTERVAL_S,
    WAIT_S,
    create_topics,
    new_topic,
    promised_configs,
    wait_for_partitions,
)
from schemas import topics as names
from schemas.defaults import PARTITIONS
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_LOAD_KEPT_MS = 300_000
_SHADOWS_KEPT_MS = 300_000


class TopicSpec(msgspec.Struct, frozen=True):
    """Topic that must exist."""

    name: str
    partitions: int = 1
    retention_ms: int | None = None
    """Milliseconds that the topic keeps records; None: as configured for its kind."""
    grows: bool = True
    """True if missing partitions are added to an existing topic."""


async def ensure_topics(settings: KafkaSettings, specs: Iterable[TopicSpec]) -> None:
    """Create the missing topics in one request, and wait until each partition has a leader that accepts records.

    Raises:
        TopicNotAllowed: this user may not create a topic.
        OperatorError: Kafka cannot be reached, refuses, or cannot add the partitions that a topic lacks.
    """
    wanted = {spec.name: spec for spec in specs}
    topics = [new_topic(settings, spec.name, spec.partitions, spec.retention_ms) for spec in wanted.values()]
    present = await create_topics(settings, topics)
    await correct_topics(settings, present)
    lacking = {
        name: wanted[name].partitions
        for name, count in present.items()
        if wanted[name].grows and count < wanted[name].partitions
    }
    if lacking:
        await _grow(settings, lacking, present)
        await wait_for_partitions(settings, lacking)


async def correct_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """Correct the configuration of existing topics that differs from the one that their kind must have."""
    promised = {topic: configs for topic in topics if (configs := promised_configs(settings, topic))}
    if not promised:
        return
    async with open_librdkafka_admin(settings) as admin:
        found = await read_configs(admin, promised)
        wrong = {
            topic: changed
            for topic, present in found.items()
            if (changed := {k: value for k, value in promised[topic].items() if present.get(k) != value})
        }
        if wrong:
            log.info("correcting the configuration of %d topics, %s first", len(wrong), next(iter(wrong.items())))
            await set_configs(admin, wrong)


async def ensure_system_topics(settings: KafkaSettings) -> None:
    """Create the topics that every system has: those of workers and selectors, dead letters and jobs."""
    await ensure_topics(
        settings,
        [
            TopicSpec(names.SYSTEM),
            TopicSpec(names.STATUS),
            TopicSpec(names.DEMAND),
            TopicSpec(names.LOAD, retention_ms=_LOAD_KEPT_MS),
            TopicSpec(names.SHADOWS, retention_ms=_SHADOWS_KEPT_MS),
            TopicSpec(names.DEAD_LETTERS),
            TopicSpec(names.LETTER_MARKS),
            TopicSpec(names.JOB_RESULTS, PARTITIONS),
            TopicSpec(names.LANES, names.LANE_COUNT),
        ],
    )


async def ensure_task_topics(settings: KafkaSettings, task: str, partitions: int) -> None:
    """Create the topics of a task's queries, and the topic of its results for clients that name none."""
    await ensure_topics(settings, task_specs(task, partitions))


def task_specs(task: str, partitions: int) -> list[TopicSpec]:
    """Return the topics of a task: its online and offline queries, and its results for clients that name no topic.

    The results topic never gets more partitions: a plain client that reads it learns of new partitions minutes later,
    and would miss the records written to them before.
    """
    queries = [TopicSpec(topic, partitions) for topic in (names.task_topic(task), names.offline_topic(task))]
    return [*queries, TopicSpec(names.results_topic(task), partitions, grows=False)]


async def ensure_tenant_topics(settings: KafkaSettings, tenant: str, partitions: int) -> None:
    """Create the topics of a tenant's queries, and the topic of its results if it names none."""
    await ensure_topics(settings, tenant_specs(tenant, partitions))


def tenant_specs(tenant: str, partitions: int) -> list[TopicSpec]:
    """Return the topics of a tenant: online and offline queries of any task, and results if it names no topic."""
    online = names.ingress_topic(tenant)
    queries = [TopicSpec(topic, partitions) for topic in (online, names.offline_of(online))]
    return [*queries, TopicSpec(names.tenant_results_topic(tenant), partitions, grows=False)]


async def ensure_variant_topics(settings: KafkaSettings, variants: Iterable[tuple[str, int]]) -> None:
    """Create the topics of variants, which are given with their numbers of partitions."""
    await ensure_topics(settings, [spec for name, count in variants for spec in variant_specs(name, count)])


def variant_specs(variant: str, partitions: int) -> list[TopicSpec]:
    """Return the topics of a variant's queues, for online and offline queries."""
    return [TopicSpec(topic, partitions) for topic in names.variant_topics(variant)]


async def until_gone(settings: KafkaSettings, topics: Collection[str]) -> None:
    """Wait until the brokers no longer know any of these topics.

    Raises:
        OperatorError: Kafka cannot be reached, or keeps the topics.
    """
    try:
        async with asyncio.timeout(WAIT_S):
            while await partitions_of(settings, topics):  # noqa: ASYNC110 - Kafka has no event for it
                await asyncio.sleep(CHECK_INTERVAL_S)
    except TimeoutError:
        raise OperatorError(f"Kafka did not delete topics; is delete.topic.enable set? {topics}") from None


async def partitions_of(kafka: KafkaSettings, topics: Iterable[str]) -> frozenset[TopicPartition]:
    """Return all partitions of those topics that exist."""
    wanted = sorted(topics)
    if not wanted:  # a request without names returns all topics
        return frozenset()
    async with open_admin(kafka) as admin:
        described = await admin.describe_topics(wanted)
    return frozenset(
        TopicPartition(topic["topic"], part["partition"]) for topic in described for part in topic["partitions"]
    )


async def _grow(settings: KafkaSettings, lacking: Mapping[str, int], present: Mapping[str, int]) -> None:
    """Add partitions to the topics in `lacking`, up to these numbers."""
    async with open_librdkafka_admin(settings) as admin:
        for name, future in admin.create_partitions([NewPartitions(*pair) for pair in lacking.items()]).items():
            try:
                await answered(future)
            except UnsupportedRequest:
                raise OperatorError(
                    f"topic {name} exists with {present[name]} partitions, but {lacking[name]} are needed, and this "
                    "broker cannot add any: use Apache Kafka, or register with more --partitions from the start"
                ) from None
            except RefusedRequest as error:
                if error.code != KafkaError.INVALID_PARTITIONS:  # else another process was faster
                    raise OperatorError(f"Kafka adds no partitions to topic {name}: {error.reason}") from error
