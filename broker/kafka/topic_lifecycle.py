"""Creation and deletion of topics, for services and the client library, and configuration of topics by kind.

The kind of a topic follows from its name. Work, the queries of tasks and variants, is never deleted by age or size: a
backlog may wait for any time. The autoscaler deletes finished queries (`autoscaler/janitor`), as Kafka Streams does in
its repartition topics. The broker frees disk space by whole segments, so segments are short. Records carry the broker's
append time: one clock for all writers.

A new topic has no leader for some 100 ms. Waiting for it here keeps that delay out of the path of a query.

The client library does not depend on confluent-kafka, so this module uses aiokafka alone. It leaves existing topics as
they are; `broker.kafka.topics` corrects them.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import NotAllowed
from schemas.errors import OperatorError
from schemas.topics import DEAD_LETTERS, LETTER_MARKS, PREFIX, SYSTEM, is_work

WAIT_S: Final = 30.0
CHECK_INTERVAL_S: Final = 0.05
MOST_RECORDS: Final = 5_000
"""Most records of metadata that a request makes: half of Kafka's limit. A topic makes one, and one for each partition
and setting."""
_STAMPED: Final = {"message.timestamp.type": "LogAppendTime"}
_FOR_EVER: Final = {"retention.ms": "-1", "retention.bytes": "-1"}
_WORK_SEGMENT_MS: Final = 600_000
_LEAST_SEGMENT_MS: Final = 60_000
_SEGMENT_BYTES: Final = 64 * 1024 * 1024
_MOST_SEGMENT_BYTES: Final = 2**31 - 1


def topic_configs(settings: KafkaSettings, topic: str, retention_ms: int | None = None) -> dict[str, str]:
    """Return the configuration of a new topic; `retention_ms` overrides the retention of its kind."""
    configs = promised_configs(settings, topic) | _STAMPED
    configs |= {
        "cleanup.policy": "delete",
        "max.message.bytes": str(settings.max_record_bytes),
        "segment.bytes": str(min(max(_SEGMENT_BYTES, 4 * settings.max_record_bytes), _MOST_SEGMENT_BYTES)),
    }
    if topic == SYSTEM:
        return configs
    if is_work(topic):
        return configs | {"segment.ms": str(_WORK_SEGMENT_MS)}
    kept_ms = _kept_ms(settings, topic) if retention_ms is None else retention_ms
    # Records are deleted by whole segments, so a segment must be shorter than the retention.
    return configs | {"retention.ms": str(kept_ms), "segment.ms": str(max(kept_ms // 4, _LEAST_SEGMENT_MS))}


def promised_configs(settings: KafkaSettings, topic: str) -> dict[str, str]:
    """Return the configuration that an existing topic must have, even if an older version or somebody else made it."""
    if topic == SYSTEM or is_work(topic):
        return _STAMPED | _FOR_EVER
    kept = {"retention.ms": str(_kept_ms(settings, topic))} if topic in (DEAD_LETTERS, LETTER_MARKS) else {}
    if topic == DEAD_LETTERS:  # clients can cause dead letters
        kept["retention.bytes"] = str(settings.dead_letter_retention_bytes)
    return _STAMPED | kept if topic.startswith(PREFIX) else kept


def _kept_ms(settings: KafkaSettings, topic: str) -> int:
    """Return the retention in milliseconds.

    A mark outlives its letter, which is kept as long as the youngest letter of its segment.
    """
    if topic == LETTER_MARKS:
        return 2 * settings.dead_letter_retention_ms
    return settings.dead_letter_retention_ms if topic == DEAD_LETTERS else settings.retention_ms


class TopicNotAllowed(OperatorError):
    """Kafka does not let this user create a topic."""


def new_topic(settings: KafkaSettings, name: str, partitions: int = 1, retention_ms: int | None = None) -> NewTopic:
    """Describe a topic for `create_topics`; `retention_ms` overrides the retention of its kind."""
    configs = topic_configs(settings, name, retention_ms)
    return NewTopic(name, partitions, settings.replication_factor, topic_configs=configs)


async def create_topics(settings: KafkaSettings, topics: Collection[NewTopic]) -> dict[str, int]:
    """Create the missing topics, and wait until each partition has a leader that accepts records.

    Kafka refuses a request that makes more than 10,000 records of metadata, hence several requests for many topics.

    Returns:
        The number of partitions of each topic that existed before.

    Raises:
        TopicNotAllowed: this user may not create a topic.
        OperatorError: Kafka cannot be reached, or refuses.
    """
    found: dict[str, int] = {}
    for some in in_requests(topics):
        names = [topic.name for topic in some]
        async with _admin_in_time(settings, names) as admin:
            present = await _create(admin, some)
            counts = await _wait_for_leaders(admin, dict.fromkeys(names, 1))
        found |= {name: counts[name] for name in present}
    return found


def in_requests(topics: Iterable[NewTopic]) -> Iterator[list[NewTopic]]:
    """Divide topics among requests: each has at least one topic, and otherwise at most `MOST_RECORDS`."""
    some, records = list[NewTopic](), 0
    for topic in topics:
        size = 1 + len(topic.topic_configs) + topic.num_partitions
        if some and records + size > MOST_RECORDS:
            yield some
            some, records = [], 0
        some.append(topic)
        records += size
    if some:
        yield some


async def wait_for_partitions(settings: KafkaSettings, least: Mapping[str, int]) -> None:
    """Wait until topics have at least these numbers of partitions, and each partition has a leader.

    Raises:
        OperatorError: Kafka cannot be reached, or does not have the partitions in time.
    """
    async with _admin_in_time(settings, least) as admin:
        await _wait_for_leaders(admin, least)


async def delete_topics(settings: KafkaSettings, topics: Sequence[str]) -> None:
    """Delete topics; missing topics are no error. Raises OperatorError if Kafka cannot be reached."""
    async with open_admin(settings) as admin, asyncio.timeout(WAIT_S):
        await admin.delete_topics(list(topics))


@asynccontextmanager
async def _admin_in_time(settings: KafkaSettings, topics: Iterable[str]) -> AsyncGenerator[AIOKafkaAdminClient]:
    """Open an admin client for at most `WAIT_S`; explain errors."""
    async with open_admin(settings) as admin:
        try:
            async with asyncio.timeout(WAIT_S):
                yield admin
        except TimeoutError:
            raise OperatorError(
                f"topics {_some([*topics])} did not become ready within {WAIT_S:g} s; see the broker's log"
            ) from None
        except KafkaError as error:
            raise OperatorError(f"Kafka at {settings.bootstrap} cannot create topics: {error}") from error


async def _create(admin: AIOKafkaAdminClient, topics: Iterable[NewTopic]) -> list[str]:
    """Create topics; return the names of the ones that exist already."""
    response: Any = await admin.create_topics([*topics])
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


async def _wait_for_leaders(admin: AIOKafkaAdminClient, least: Mapping[str, int]) -> dict[str, int]:
    """Poll until each topic has its least number of partitions and all have leaders; return the numbers.

    Kafka has no event for it.
    """
    found, left = dict[str, int](), [*least]
    while True:
        described: list[dict[str, Any]] = await admin.describe_topics(left)
        found |= {topic["topic"]: len(topic["partitions"]) for topic in described if _has_leaders(topic)}
        left = [topic for topic in left if found.get(topic, 0) < least[topic]]
        if not left:
            return found
        await asyncio.sleep(CHECK_INTERVAL_S)


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    if topic["error_code"]:
        return False
    return not any(part["error_code"] or part["leader"] < 0 for part in topic["partitions"])


def _some(topics: Sequence[str]) -> str:
    shown = ", ".join(topics[:3])
    return shown if len(topics) <= 3 else f"{shown} and {len(topics) - 3} more"
