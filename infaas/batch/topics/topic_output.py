"""Where the outcome of a record goes, and what of the record goes along: its key and headers, but for the wire's."""

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
"""Bytes beside key, value and headers that a record may take."""


class TopicOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Topics of answers and of failed records."""

    topic: str
    failed_topic: str
    partitions: dict[str, int]
    """Numbers of partitions of these two, and of the topic that is read."""
    headers: frozenset[str] | None
    """Names of the headers that answers carry on; None: all but those of the wire."""
    max_bytes: int
    """Bytes of the largest record."""

    def record(self, outcome: AnsweredRecord | FailedRecord) -> OutgoingRecord:
        """The record that tells of an outcome."""
        if isinstance(outcome, FailedRecord):
            return self._failure(outcome)
        answer = self._answer(outcome)
        size = _bytes(answer.key, answer.value, answer.headers)
        if size <= self.max_bytes:
            return answer
        reason = f"the answer has {size} bytes, more than Kafka takes (INFAAS_KAFKA_MAX_RECORD_BYTES)"
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
        """The record, or its beginning where there is no room, with the reason, in the manner of a dead letter."""
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
        """The same, where there are as many; else what the key says, so that each key stays in order."""
        count = self.partitions[topic]
        if count == self.partitions[record.topic]:
            return record.partition
        return record.partition % count if record.key is None else None


def _bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Bytes that a record takes at most."""
    return len(value or b"") + len(key or b"") + sum(len(n) + len(v) for n, v in headers) + _SPARE_BYTES
