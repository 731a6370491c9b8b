"""Record batches become records, whatever bytes they hold: what cannot be read is said to be damaged, never raised.

Anybody may write to a topic. aiokafka's parser, in C, reads what is as it should be; it stops at a header whose name is
not UTF-8, and at anything worse. From there on the slow reader here goes record by record, by the lengths that they
carry: it takes such names with `surrogateescape`, so that their bytes are kept, and passes over the single record that
makes no sense.

Where a batch ends is known from its head alone, so that the next fetch can be sent before this one is read. So is
whether it belongs to a transaction that was aborted: its records are passed, as are the marks that end transactions.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from broker.fetch.decompression import decompressed
from broker.kafka_types import Record

UNKNOWN_EPOCH: Final = -1
"""Epoch of a leader that is not known."""
_PREFIX: Final = struct.Struct(">qi")
_V2_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT: Final = 16
_LAST_DELTA: Final = struct.Struct(">i")
_LAST_DELTA_AT: Final = 23
_V2: Final = 2
_EPOCH: Final = struct.Struct(">i")
_OLD_HEAD: Final = 26
_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_ATTRIBUTES: Final = struct.Struct(">h")
_ATTRIBUTES_AT: Final = 21
_PRODUCER: Final = struct.Struct(">q")
_PRODUCER_AT: Final = 43


class AbortedTransaction(NamedTuple):
    """A transaction whose records are not to be read."""

    producer: int
    """Id that Kafka gave the producer, which stands in the head of each batch."""
    first: int
    """Offset of its first record; it ends with the next mark of this producer."""


class FetchedBatch(NamedTuple):
    """A batch as it came, and the offsets that it spans by its head."""

    first: int
    next: int
    data: bytes
    problem: str = ""
    """Why it cannot be a batch, if so."""
    aborted: bool = False
    """Whether its transaction was aborted, so that nobody is to read it."""


class Damage(NamedTuple):
    """Offsets that hold what cannot be read."""

    first: int
    next: int
    reason: str
    certain: bool
    """Whether reading it again from the broker would give the same."""


def split(data: bytes, position: int, end: int) -> list[FetchedBatch]:
    """Cut what a fetch from `position` brought into its batches, less one at the end that is not whole.

    `end` is the offset after the partition's last record; a batch that says to reach beyond it is damaged, and ends
    where the one after it begins.
    """
    found: list[FetchedBatch] = []
    at, size = 0, len(data)
    while at + _PREFIX.size <= size:
        first, length = _PREFIX.unpack_from(data, at)
        stop = at + _PREFIX.size + length
        if length < _OLD_HEAD - _PREFIX.size:
            found.append(FetchedBatch(position, position + 1, b"", f"a batch of {length} bytes"))
            break
        if stop > size:
            break
        batch = _span(data[at:stop], first, position, end)
        if found and found[-1].problem and batch.first > position:
            found[-1] = found[-1]._replace(next=batch.first)
        found.append(batch)
        position = batch.next
        at = stop
    return found


def _span(data: bytes, first: int, position: int, end: int) -> FetchedBatch:
    delta = 0
    if data[_MAGIC_AT] >= _V2:  # else a compressed one carries its last offset
        if len(data) < _V2_HEAD.size:
            return FetchedBatch(position, position + 1, data, "a batch without a whole head")
        (delta,) = _LAST_DELTA.unpack_from(data, _LAST_DELTA_AT)
    if delta < 0 or not position <= first + delta < end:
        return FetchedBatch(position, position + 1, data, f"a batch that says to reach from {first} to {first + delta}")
    return FetchedBatch(first, first + delta + 1, data)


def epoch_of(batch: FetchedBatch) -> int:
    """Epoch of the leader that wrote a batch, if it says."""
    if batch.problem or batch.data[_MAGIC_AT] < _V2:
        return UNKNOWN_EPOCH
    (epoch,) = _EPOCH.unpack_from(batch.data, _PREFIX.size)
    return epoch


def mark_aborted(batches: list[FetchedBatch], aborted: Iterable[AbortedTransaction]) -> None:
    """Mark the batches, in the order of the log, that belong to transactions that were aborted."""
    begins = sorted(aborted, key=lambda transaction: transaction.first, reverse=True)
    open_: set[int] = set()
    for place, batch in enumerate(batches):
        while begins and begins[-1].first < batch.next:
            open_.add(begins.pop().producer)
        if batch.problem or batch.data[_MAGIC_AT] < _V2:
            continue
        (attributes,) = _ATTRIBUTES.unpack_from(batch.data, _ATTRIBUTES_AT)
        if attributes & _TRANSACTIONAL:
            (producer,) = _PRODUCER.unpack_from(batch.data, _PRODUCER_AT)
            if attributes & _CONTROL:
                open_.discard(producer)
            elif producer in open_:
                batches[place] = batch._replace(aborted=True)


def read_batch(topic: str, partition: int, batch: FetchedBatch, position: int) -> Iterator[Record | Damage]:
    """Read the records of a batch from `position` on, one after another; raises nothing for their sake."""
    if batch.problem:
        yield Damage(position, batch.next, batch.problem, certain=False)
        return
    try:
        opened = MemoryRecords(batch.data).next_batch()
        problem = "" if opened is not None and opened.validate_crc() else "its checksum does not fit"
    except Exception as error:  # noqa: BLE001 - the parser in C raises what it likes
        opened, problem = None, repr(error)
    if opened is None or problem:
        yield Damage(position, batch.next, problem, certain=False)
        return
    if opened.is_control_batch or batch.aborted:
        return
    try:
        if batch.data[_MAGIC_AT] >= _V2 and (plain := decompressed(batch.data)) is not batch.data:
            batch = batch._replace(data=plain)
            opened = MemoryRecords(plain).next_batch() or ()
        for found in opened:
            if found.offset >= batch.next:
                raise ValueError(f"a record of offset {found.offset}")
            if found.offset >= position:
                position = found.offset + 1
                yield _record(
                    topic, partition, found.offset, found.timestamp, found.timestamp_type, found.key, found.value,
                    found.headers,
                )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - as above
        yield from _read_leniently(topic, partition, batch, position, error)


def _record(
    topic: str, partition: int, offset: int, timestamp: int | None, timestamp_type: int | None,
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]],
) -> Record:  # fmt: skip
    return Record(
        topic, partition, offset, timestamp or 0, timestamp_type or 0, key, value, None,
        -1 if key is None else len(key), -1 if value is None else len(value), tuple(headers),  # pyright: ignore[reportArgumentType] - aiokafka says that no header is None
    )  # fmt: skip


def _read_leniently(
    topic: str, partition: int, batch: FetchedBatch, position: int, error: Exception
) -> Iterator[Record | Damage]:
    if batch.data[_MAGIC_AT] < _V2:
        yield Damage(position, batch.next, repr(error), certain=True)
        return
    head = _V2_HEAD.unpack_from(batch.data)
    base, attributes, first_ms, last_ms, count = head[0], head[5], head[7], head[8], head[12]
    try:
        data = bytearray(decompressed(batch.data)[_V2_HEAD.size :])
    except ValueError as failed:
        yield Damage(position, batch.next, str(failed), certain=True)
        return
    at, offset = 0, base
    for _ in range(count):
        if offset >= batch.next:
            break
        try:
            length, body = decode_varint(data, at)
            at = body + length
            if length <= 0 or at > len(data):
                break
        except (KafkaError, ValueError, IndexError, OverflowError):
            break
        read = _read_record(data[body:at], base)
        if read is None or not offset <= read[0] < batch.next:
            if offset >= position:
                yield Damage(offset, offset + 1, f"a record of {length} bytes that makes no sense", certain=True)
        else:
            offset, delta_ms, key, value, headers = read
            if offset >= position:
                written_ms = last_ms if attributes & _APPEND_TIME else first_ms + delta_ms
                kind = int(bool(attributes & _APPEND_TIME))
                yield _record(topic, partition, offset, written_ms, kind, key, value, headers)
        offset += 1
        position = max(position, offset)
    if position < batch.next:
        yield Damage(position, batch.next, repr(error), certain=True)


_Read = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _read_record(data: bytearray, base: int) -> _Read | None:
    """Offset, time after the batch's, key, value and headers of one record; None if it makes no sense."""
    try:
        at = 1  # attributes, of which there are none
        delta_ms, at = decode_varint(data, at)
        delta, at = decode_varint(data, at)
        key, at = _bytes(data, at)
        value, at = _bytes(data, at)
        count, at = decode_varint(data, at)
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            name, at = _bytes(data, at)
            text, at = _bytes(data, at)
            headers.append(((name or b"").decode(errors="surrogateescape"), text))
    except (KafkaError, ValueError, IndexError, OverflowError):
        return None
    return (base + delta, delta_ms, key, value, headers) if delta >= 0 else None


def _bytes(data: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    if at + length > len(data):
        raise ValueError("it says to be longer than it is")
    return bytes(data[at : at + length]), at + length
