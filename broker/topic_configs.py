"""Configuration of topics by kind; the kind follows from the name of the topic.

Work, the queries of tasks and variants, is never deleted by age or size: a backlog may wait for any time. The
autoscaler deletes finished queries (`autoscaler/janitor`), as Kafka Streams does in its repartition topics. The broker
frees disk space by whole segments, so segments are short.

Records carry the broker's append time: one clock for all writers.
"""

from typing import Final

from broker.settings import KafkaSettings
from schemas.topics import DEAD_LETTERS, LETTER_MARKS, PREFIX, SYSTEM, is_work

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
