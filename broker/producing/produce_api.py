"""Requests to write, packed by `struct`, their answers, and the judgement of an answer or of the lack of one.

`judge` is pure, and the only place that judges.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Any, ClassVar, Final, NamedTuple, Self

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
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
from aiokafka.protocol.transaction import InitProducerIdRequest

from broker.kafka.encoded_request import EncodedRequest
from broker.kafka.types import InvalidRecord, UnsupportedCompression
from broker.producing.partition_queue import PartitionQueue, ProducerIdentity, RecordBatch

_ALL_REPLICAS: Final = -1
_HEAD: Final = struct.Struct(">hhii")  # no transactional id, acks, timeout in ms, number of topics
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")
_BATCH: Final = struct.Struct(">ii")  # partition, bytes
_PART: Final = struct.Struct(">ihqqq")  # partition, error, offset, append time, start of the log
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


class PartitionAnswer(NamedTuple):
    """Answer about the batch of one partition."""

    code: int
    offset: int
    """Offset of the first record."""
    append_ms: int
    """Append time in milliseconds by the broker's clock; -1 if the topic keeps the sender's time."""


class Produce(EncodedRequest):
    """Request to a leader to write batches, one for each partition."""

    API_KEY: ClassVar = 0
    API_VERSION: ClassVar = 7

    @classmethod
    def of(cls, batches: Iterable[tuple[PartitionQueue, RecordBatch]], timeout_ms: int) -> Self:
        """Encode the request; the broker waits for all replicas for at most `timeout_ms`."""
        topics: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for queue, batch in batches:
            topics[queue.topic].append((queue.number, batch.data))
        parts = [_HEAD.pack(-1, _ALL_REPLICAS, timeout_ms, len(topics))]
        for topic, written in topics.items():
            name = topic.encode()
            parts += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(written)))
            for number, data in written:
                parts += (_BATCH.pack(number, len(data)), data)
        return cls(b"".join(parts))


def read_produced(answer: Any) -> Iterator[tuple[tuple[str, int], PartitionAnswer]]:
    """Decode the answer to Produce, by topic and partition."""
    data: bytes = answer.data
    (topics,) = _COUNT.unpack_from(data, 0)
    at = _COUNT.size
    for _ in range(topics):
        (length,) = _LENGTH.unpack_from(data, at)
        begin = at + _LENGTH.size + length
        topic = data[at + _LENGTH.size : begin].decode()
        (count,) = _COUNT.unpack_from(data, begin)
        begin += _COUNT.size
        at = begin + count * _PART.size
        for number, code, offset, append_ms, _start in _PART.iter_unpack(data[begin:at]):
            yield (topic, number), PartitionAnswer(code, offset, append_ms)


async def new_identity(client: AIOKafkaClient) -> ProducerIdentity:
    """Request a new producer id from any broker.

    Raises:
        KafkaError: the broker assigns none now.
    """
    node = client.get_random_node()
    # Without transactions its timeout has no meaning.
    answer: Any = await client.send(node, InitProducerIdRequest(None, 1000))  # pyright: ignore[reportArgumentType]
    error = error_of(answer.error_code)
    if error is not None:
        raise error
    return ProducerIdentity(answer.producer_id, answer.producer_epoch)
