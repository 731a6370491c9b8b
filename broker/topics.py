"""Create topics at registration and wait until they are ready, so that later code never meets a topic that is not.

A new topic has no leader for some 100 ms. Waiting for it here keeps that delay out of the path of a query. The
functions are idempotent: an existing topic stays as it is, but gets missing partitions, and the configuration that its
kind must have (`broker.topic_configs`). Partitions are never removed. The embedded broker can change neither.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from broker.client import open_admin
from broker.config_api import read_configs, set_configs
from broker.kafka_types import NotAllowed
from broker.settings import KafkaSettings
from broker.topic_configs import promised_configs, topic_configs
from schemas import topics as names
from schemas.defaults import PARTITIONS
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

WAIT_S = 30.0
_CHECK_INTERVAL_S = 0.05
_LOAD_KEPT_MS = 300_000
_SHADOWS_KEPT_MS = 300_000


class TopicNotAllowed(OperatorError):
    """Kafka does not let this user create a topic."""


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
    wanted = list({spec.name: spec for spec in specs}.values())
    if not wanted:
        return
    async with open_admin(settings) as admin:
        try:
            async with asyncio.timeout(WAIT_S):
                present = await _create(admin, settings, wanted)
                await _correct(admin, settings, present)
                await _wait_for_leaders(admin, wanted)
        except TimeoutError:
            raise OperatorError(
                f"topics {_some(wanted)} did not become ready within {WAIT_S:g} s; see the broker's log"
            ) from None
        except KafkaError as error:
            raise OperatorError(f"Kafka at {settings.bootstrap} cannot create topics: {error}") from error


async def correct_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """Correct the configuration of existing topics that differs from the one that their kind must have.

    Raises:
        KafkaError: Kafka refuses.
        TimeoutError: Kafka does not answer in time.
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin, asyncio.timeout(WAIT_S):
        await _correct(admin, settings, topics)


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


async def delete_topics(settings: KafkaSettings, topics: Sequence[str]) -> None:
    """Delete topics; missing topics are no error.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin, asyncio.timeout(WAIT_S):
        await admin.delete_topics(list(topics))


async def until_gone(settings: KafkaSettings, topics: Collection[str]) -> None:
    """Wait until the brokers no longer know any of these topics.

    Raises:
        OperatorError: Kafka cannot be reached, or keeps the topics.
    """
    try:
        async with asyncio.timeout(WAIT_S):
            while await partitions_of(settings, topics):  # noqa: ASYNC110 - Kafka has no event for it
                await asyncio.sleep(_CHECK_INTERVAL_S)
    except TimeoutError:
        raise OperatorError(f"Kafka did not delete topics; is delete.topic.enable set? {topics}") from None


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, specs: list[TopicSpec]) -> list[str]:
    """Create topics; return the names of the ones that exist already."""
    response: Any = await admin.create_topics([_new_topic(settings, spec) for spec in specs])
    present = list[str]()
    for name, code, message, *_ in response.topic_errors:
        if not code:
            continue
        kind = for_code(code)
        if kind is not TopicAlreadyExistsError:
            error = TopicNotAllowed if kind is NotAllowed else OperatorError
            raise error(f"cannot create topic {name}: {(message or kind.description).rstrip('.')}")
        present.append(name)
    return present


def _new_topic(settings: KafkaSettings, spec: TopicSpec) -> NewTopic:
    configs = topic_configs(settings, spec.name, spec.retention_ms)
    return NewTopic(spec.name, spec.partitions, settings.replication_factor, topic_configs=configs)


async def _correct(admin: AIOKafkaAdminClient, settings: KafkaSettings, present: Iterable[str]) -> None:
    """Correct the configuration of existing topics that differs from the one that their kind must have."""
    promised = {topic: configs for topic in present if (configs := promised_configs(settings, topic))}
    if not promised:
        return
    found = await read_configs(admin, promised)
    wrong = {
        topic: changed
        for topic, present_configs in found.items()
        if (changed := {k: value for k, value in promised[topic].items() if present_configs.get(k) != value})
    }
    if wrong:
        log.info("correcting the configuration of %d topics, %s first", len(wrong), next(iter(wrong.items())))
        await set_configs(admin, wrong)


async def _wait_for_leaders(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    """Poll until every partition has a leader; Kafka has no event for it."""
    while waiting := await _without_leader(admin, specs):
        specs = waiting
        await asyncio.sleep(_CHECK_INTERVAL_S)


async def _without_leader(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[TopicSpec]:
    described = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
    waiting: list[TopicSpec] = []
    for spec in specs:
        topic = described.get(spec.name)
        partitions = topic["partitions"] if topic and not topic["error_code"] else []
        if spec.grows and 0 < len(partitions) < spec.partitions:
            await _grow(admin, spec, len(partitions))
            waiting.append(spec)
        elif not partitions or any(part["error_code"] or part["leader"] < 0 for part in partitions):
            waiting.append(spec)
    return waiting


async def _grow(admin: AIOKafkaAdminClient, spec: TopicSpec, present: int) -> None:
    try:
        await admin.create_partitions({spec.name: NewPartitions(spec.partitions)})
    except InvalidPartitionsError:  # another process was faster; the caller looks again
        return
    except IncompatibleBrokerVersion:
        raise OperatorError(
            f"topic {spec.name} exists with {present} partitions, but {spec.partitions} are needed, and this broker "
            "cannot add any: use Apache Kafka, or register with more --partitions from the start"
        ) from None


def _some(specs: list[TopicSpec]) -> str:
    shown = ", ".join(spec.name for spec in specs[:3])
    return shown if len(specs) <= 3 else f"{shown} and {len(specs) - 3} more"


async def partitions_of(kafka: KafkaSettings, topics: Iterable[str]) -> frozenset[TopicPartition]:
    """Return all partitions of those topics that exist.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    wanted = sorted(topics)
    if not wanted:  # a request without names returns all topics
        return frozenset()
    async with open_admin(kafka) as admin:
        described = await admin.describe_topics(wanted)
    return frozenset(
        TopicPartition(topic["topic"], part["partition"]) for topic in described for part in topic["partitions"]
    )
