"""Output record and topic of each outcome. The record keeps its key and headers, except INFaaS protocol headers."""

from typing import Final

import msgspec

from broker import dead_letters as letters
from broker.exactly_once.partition_writer import OutgoingRecord
from broker.kafka_types import Record
from infaas.batch.topics.record_chunk import AnsweredRecord, FailedRecord
from infaas.batch.topics.record_query import record_id
from schemas import headers as h
from schemas.errors import ErrorCode
from schemas.headers import RawHeaders
from schemas.result import OK

_OURS: Final = "infaas-"
_FORMS: Final = (h.CONTENT_TYPE, h.JSON_LENGTH)
_SPARE_BYTES: Final = 1024
"""Bytes allowed for a record besides its key, value and headers."""


class TopicOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Output topics for answers and for failed records."""

    topic: str
    failed_topic: str
    partitions: dict[str, int]
    """Number of partitions of the two output topics and of the input topic."""
    headers: frozenset[str] | None
    """Names of the headers that answers keep; None: all except INFaaS protocol headers."""
    max_bytes: int
    """Maximum record size in bytes."""

    def record(self, outcome: AnsweredRecord | FailedRecord) -> OutgoingRecord:
        """Return the output record of an outcome; an answer above `max_bytes` becomes a failure."""
        if isinstance(outcome, FailedRecord):
            return self._failure(outcome)
        answer = self._answer(outcome)
        size = _bytes(answer.key, answer.value, answer.headers)
        if size <= self.max_bytes:
            return answer
        reason = f"the answer has {size} bytes, more than Kafka accepts (INFAAS_KAFKA_MAX_RECORD_BYTES)"
        return self._failure(FailedRecord(outcome.record, ErrorCode.INVALID_REQUEST, reason))

    def _answer(self, outcome: AnsweredRecord) -> OutgoingRecord:
        record, answer = outcome.record, outcome.answer
        headers = [(name, value or b"") for name, value in record.headers if self._is_carried(name)]
        own = {h.ID: record_id(record), h.STATUS: OK, h.VARIANT: outcome.variant, h.CONTENT_TYPE: answer.content_type}
        if answer.json_length is not None:
            own[h.JSON_LENGTH] = str(answer.json_length)
        headers += [(name, text.encode()) for name, text in own.items()]
        return OutgoingRecord(self.topic, self._partition(record, self.topic), record.key, answer.value, headers)

    def _failure(self, failed: FailedRecord) -> OutgoingRecord:
        """Return the record with the reason as headers, like a dead letter; shortened if above `max_bytes`."""
        record = failed.record
        own = {
            h.ID: record_id(record),
            h.STATUS: str(failed.code),
            letters.REASON: failed.reason[:1000],
            letters.TOPIC: record.topic,
            letters.PARTITION: str(record.partition),
            letters.OFFSET: str(record.offset),
        }
        key, value = record.key, record.value
        headers = [(n, v or b"") for n, v in record.headers if n not in own and n != h.REPLY_STREAM]
        added = [(name, text.encode(errors="replace")) for name, text in own.items()]
        if _bytes(key, value, headers + added) > self.max_bytes:
            key, value, headers = letters.shortened(key, value, headers, self.max_bytes // 2)
        partition = self._partition(record, self.failed_topic)
        return OutgoingRecord(self.failed_topic, partition, key, value or b"", headers + added)

    def _is_carried(self, name: str) -> bool:
        if self.headers is not None:
            return name in self.headers
        return not name.startswith(_OURS) and name not in _FORMS

    def _partition(self, record: Record, topic: str) -> int | None:
        """Return the partition of an output record.

        It is the input's partition if both topics have the same number of partitions. Otherwise the key decides (None),
        so that records of a key stay in order; without a key, the partition modulo the number of partitions.
        """
        count = self.partitions[topic]
        if count == self.partitions[record.topic]:
            return record.partition
        return record.partition % count if record.key is None else None


def _bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Return an upper bound of a record's size in bytes."""
    return len(value or b"") + len(key or b"") + sum(len(n) + len(v) for n, v in headers) + _SPARE_BYTES
