"""Judgement of an answer about a batch, or of the lack of one. Pure, and the only place that judges."""

from enum import Enum, auto
from typing import Final

from aiokafka.errors import (
    BrokerResponseError,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    StaleMetadata,
    UnknownProducerId,
    for_code,
)


class InvalidRecord(BrokerResponseError):
    """The topic refuses a record of the batch, for example one without a key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"


class UnsupportedCompression(BrokerResponseError):
    """The topic does not accept the batch's compression."""

    errno = 76
    message = "UNSUPPORTED_COMPRESSION_TYPE"


_UNKNOWN_TO_AIOKAFKA: Final = {kind.errno: kind for kind in (InvalidRecord, UnsupportedCompression)}
_LOST_SEQUENCE: Final = (
    OutOfOrderSequenceNumber,
    UnknownProducerId,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    ProducerFenced,
)
_NOT_SENT: Final = (NodeNotReadyError, StaleMetadata)


class Verdict(Enum):
    """Next step for a batch."""

    WRITTEN = auto()
    AGAIN = auto()
    """Sent again unchanged, while its records have time."""
    RENEW = auto()
    """Sent again under another identity, since the broker cannot place its sequence."""
    SPLIT = auto()
    """Too large: sent again in smaller batches, or refused if it is a single record."""
    REFUSED = auto()
    """No further attempt would succeed."""


def error_of(code: int) -> KafkaError | None:
    """Return the error for a code of Kafka's; None for success."""
    if code == 0:
        return None
    kind = _UNKNOWN_TO_AIOKAFKA.get(code) or for_code(code)
    return MessageSizeTooLargeError() if kind is RecordListTooLargeError else kind()


def judge(error: KafkaError | None) -> Verdict:
    """Judge the outcome of an attempt: the broker's error for the partition, or that of the whole request."""
    if error is None or isinstance(error, DuplicateSequenceNumber):
        return Verdict.WRITTEN
    if isinstance(error, MessageSizeTooLargeError):
        return Verdict.SPLIT
    if isinstance(error, _LOST_SEQUENCE):
        return Verdict.RENEW
    return Verdict.AGAIN if error.retriable else Verdict.REFUSED


def may_be_written(error: KafkaError | None) -> bool:
    """Return true if a batch may have been written by an attempt with this error."""
    return error is not None and judge(error) is Verdict.AGAIN and not isinstance(error, _NOT_SENT)


def needs_metadata(error: KafkaError | None) -> bool:
    """Return true if the error shows that the known metadata is outdated."""
    return error is not None and bool(error.invalid_metadata)
