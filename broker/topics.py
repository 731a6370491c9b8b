"""Creates topics, at registration, and waits for them, so that nothing later meets one that is not ready.

A topic just created has no leader for some 100 ms. Waiting here, once, is what keeps that out of the way of a query.
Ensuring is idempotent: a topic that exists is left as it is, but gets the partitions it lacks; none is ever taken away.
The embedded broker cannot add partitions: there they are as many as at first.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from broker.client import open_admin
from broker.settings import KafkaSettings
from schemas import topics as names
from schemas.errors import OperatorError

WAIT_S = 30.0
_CHECK_INTERVAL_S = 0.05
_LOAD_KEPT_MS = 300_000


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic that must exist."""

    name: str
    partitions: int = 1
    retention_ms: int | None = None
    """Milliseconds that it keeps records; None: as the settings say."""


async def ensure_topics(settings: KafkaSettings, specs: Iterable[TopicSpec]) -> None:
    """Create what is missing, in one request, and wait until each partition has a leader that accepts records.

    Raises:
        OperatorError: Kafka cannot be reached or refuses, or cannot add the partitions that a topic lacks.
    """
    wanted = list({spec.name: spec for spec in specs}.values())
    if not wanted:
        return
    async with open_admin(settings) as admin:
        try:
            async with asyncio.timeout(WAIT_S):
                await _create(admin, settings, wanted)
                await _wait_for_leaders(admin, wanted)
        except TimeoutError:
            raise OperatorError(
                f"topics {_some(wanted)} did not become ready within {WAIT_S:g} s; see the broker's log"
            ) from None
        except KafkaError as error:
            raise OperatorError(f"Kafka at {settings.bootstrap} cannot create topics: {error}") from error


async def ensure_system_topics(settings: KafkaSettings) -> None:
    """Create the topics that exist whatever is registered: status, demand, load and dead letters."""
    await ensure_topics(
        settings,
        [
            TopicSpec(names.STATUS),
            TopicSpec(names.DEMAND),
            TopicSpec(names.LOAD, retention_ms=_LOAD_KEPT_MS),
            TopicSpec(names.DEAD_LETTERS),
        ],
    )


async def ensure_task_topics(settings: KafkaSettings, task: str, partitions: int) -> None:
    """Create the topics of a task's queries, and of its results when the client names no topic."""
    await ensure_topics(settings, task_specs(task, partitions))


def task_specs(task: str, partitions: int) -> list[TopicSpec]:
    """Topics where a task's queries come in, online and offline ones, and where results go when a client names none."""
    topics = (names.task_topic(task), names.offline_topic(task), names.results_topic(task))
    return [TopicSpec(topic, partitions) for topic in topics]


async def ensure_variant_topics(settings: KafkaSettings, variants: Iterable[tuple[str, int]]) -> None:
    """Create the topics of variants, given with their numbers of partitions."""
    await ensure_topics(settings, [TopicSpec(names.variant_topic(name), count) for name, count in variants])


async def delete_topics(settings: KafkaSettings, topics: Sequence[str]) -> None:
    """Delete topics; those that do not exist are no error.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings) as admin, asyncio.timeout(WAIT_S):
        await admin.delete_topics(list(topics))


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, specs: list[TopicSpec]) -> None:
    response: Any = await admin.create_topics([_new_topic(settings, spec) for spec in specs])
    for name, code, message, *_ in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise OperatorError(f"cannot create topic {name}: {message or for_code(code).description}")


def _new_topic(settings: KafkaSettings, spec: TopicSpec) -> NewTopic:
    retention = settings.retention_ms if spec.retention_ms is None else spec.retention_ms
    configs = {
        "retention.ms": str(retention),
        "cleanup.policy": "delete",
        "max.message.bytes": str(settings.max_record_bytes),
        # What is kept is deleted by whole segments: they must be younger than the retention to have an end.
        "segment.ms": str(max(retention // 4, 60_000)),
    }
    return NewTopic(spec.name, spec.partitions, settings.replication_factor, topic_configs=configs)


async def _wait_for_leaders(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    """Wait until every partition has a leader, by asking again and again: Kafka has no event for it."""
    while waiting := await _without_leader(admin, specs):
        specs = waiting
        await asyncio.sleep(_CHECK_INTERVAL_S)


async def _without_leader(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[TopicSpec]:
    described = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
    waiting: list[TopicSpec] = []
    for spec in specs:
        topic = described.get(spec.name)
        partitions = topic["partitions"] if topic and not topic["error_code"] else []
        if 0 < len(partitions) < spec.partitions:
            await _grow(admin, spec, len(partitions))
            waiting.append(spec)
        elif not partitions or any(part["error_code"] or part["leader"] < 0 for part in partitions):
            waiting.append(spec)
    return waiting


async def _grow(admin: AIOKafkaAdminClient, spec: TopicSpec, present: int) -> None:
    try:
        await admin.create_partitions({spec.name: NewPartitions(spec.partitions)})
    except InvalidPartitionsError:  # somebody else was quicker: what there is now is looked at again
        return
    except IncompatibleBrokerVersion:
        raise OperatorError(
            f"topic {spec.name} exists with {present} partitions, but {spec.partitions} are needed, and this broker "
            "cannot add any: use Apache Kafka, or register with more --partitions from the start"
        ) from None


def _some(specs: list[TopicSpec]) -> str:
    shown = ", ".join(spec.name for spec in specs[:3])
    return shown if len(specs) <= 3 else f"{shown} and {len(specs) - 3} more"
