"""Decoding of record batches of any content: unreadable records are returned as damage, never raised as an error.

Anybody may write to a topic. aiokafka's parser in C reads valid batches. It stops at a header name that is not UTF-8,
and at anything worse. From there on the slower reader in this module decodes record by record, by their lengths. It
decodes such names with `surrogateescape`, which keeps their bytes, and passes over a single record that is invalid.

The header of a batch tells where it ends, so the next fetch can be sent before this one is decoded. It also tells
whether the batch belongs to an aborted transaction. Records of aborted transactions are passed over, as are the markers
that end transactions.

Decompression has a size limit: three kilobytes may become a hundred megabytes. Brokers limit only the compressed size
of a batch, and aiokafka's decoders use any amount of memory.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import cramjam
from aiokafka.codec import snappy_decode
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from broker.kafka.types import Record

MOST_BYTES: Final = 128 * 1024 * 1024
"""Largest size of a decompressed batch."""
_FIRST_GUESS: Final = 16
_LEAST_BYTES: Final = 64 * 1024
_LENGTH_AT: Final = 8
_CODEC: Final = 0x07
_SNAPPY: Final = 2  # expands by a factor of 20 at most
_modules: Final[dict[int, Any]] = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}
UNKNOWN_EPOCH: Final = -1
"""Epoch of an unknown leader."""
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
    """Aborted transaction, whose records must not be read."""

    producer: int
    """Producer id that Kafka assigned; it is in the header of each batch."""
    first: int
    """Offset of its first record; the transaction ends with the next marker of this producer."""


class FetchedBatch(NamedTuple):
    """Encoded batch, and the offsets that it spans according to its header."""

    first: int
    next: int
    data: bytes
    problem: str = ""
    """Why it cannot be a batch; empty if it can."""
    aborted: bool = False
    """True if its transaction was aborted, so that its records must not be read."""


class Damage(NamedTuple):
    """Offsets whose records cannot be read."""

    first: int
    next: int
    reason: str
    certain: bool
    """True if reading the offsets from the broker again would give the same."""


def split(data: bytes, position: int, end: int) -> list[FetchedBatch]:
    """Split the data of a fetch from `position` into batches, without an incomplete one at the end.

    `end` is the offset behind the partition's last record. A batch that claims to reach beyond it is damaged, and ends
    where the next one begins.
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
    if data[_MAGIC_AT] >= _V2:  # an older compressed batch carries its last offset
        if len(data) < _V2_HEAD.size:
            return FetchedBatch(position, position + 1, data, "incomplete batch header")
        (delta,) = _LAST_DELTA.unpack_from(data, _LAST_DELTA_AT)
    if delta < 0 or not position <= first + delta < end:
        return FetchedBatch(position, position + 1, data, f"batch header claims offsets {first}..{first + delta}")
    return FetchedBatch(first, first + delta + 1, data)


def epoch_of(batch: FetchedBatch) -> int:
    """Return the epoch of the leader that wrote a batch; UNKNOWN_EPOCH if the batch does not name it."""
    if batch.problem or batch.data[_MAGIC_AT] < _V2:
        return UNKNOWN_EPOCH
    (epoch,) = _EPOCH.unpack_from(batch.data, _PREFIX.size)
    return epoch


def mark_aborted(batches: list[FetchedBatch], aborted: Iterable[AbortedTransaction]) -> None:
    """Mark the batches that belong to aborted transactions; `batches` are in the order of the log."""
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
    """Decode the records of a batch from `position` on; errors in them are yielded as damage."""
    if batch.problem:
        yield Damage(position, batch.next, batch.problem, certain=False)
        return
    try:
        opened = MemoryRecords(batch.data).next_batch()
        problem = "" if opened is not None and opened.validate_crc() else "wrong checksum"
    except Exception as error:  # noqa: BLE001 - the parser in C raises many types
        opened, problem = None, repr(error)
    if opened is None or problem:
        yield Damage(position, batch.next, problem, certain=False)
        return
    if opened.is_control_batch or batch.aborted:
        return
    try:
        if batch.data[_MAGIC_AT] >= _V2 and (plain := _decompressed(batch.data)) is not batch.data:
            batch = batch._replace(data=plain)
            opened = MemoryRecords(plain).next_batch() or ()
        for found in opened:
            if found.offset >= batch.next:
                raise ValueError(f"record with invalid offset {found.offset}")
            if found.offset >= position:
                position = found.offset + 1
                yield Record(
                    topic, partition, position - 1, found.timestamp or 0, found.timestamp_type or 0, found.key,
                    found.value, found.headers,  # pyright: ignore[reportArgumentType] - as below
                )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - as above
        yield from _read_leniently(topic, partition, batch, position, error)


def _read_leniently(
    topic: str, partition: int, batch: FetchedBatch, position: int, error: Exception
) -> Iterator[Record | Damage]:
    if batch.data[_MAGIC_AT] < _V2:
        yield Damage(position, batch.next, repr(error), certain=True)
        return
    head = _V2_HEAD.unpack_from(batch.data)
    base, attributes, first_ms, last_ms, count = head[0], head[5], head[7], head[8], head[12]
    try:
        data = bytearray(_decompressed(batch.data)[_V2_HEAD.size :])
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
                yield Damage(offset, offset + 1, f"invalid record of {length} bytes", certain=True)
        else:
            offset, delta_ms, key, value, headers = read
            if offset >= position:
                written_ms = last_ms if attributes & _APPEND_TIME else first_ms + delta_ms
                kind = int(bool(attributes & _APPEND_TIME))
                yield Record(topic, partition, offset, written_ms, kind, key, value, headers)  # pyright: ignore[reportArgumentType] - a header of None is not one for aiokafka
        offset += 1
        position = max(position, offset)
    if position < batch.next:
        yield Damage(position, batch.next, repr(error), certain=True)


_Read = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _read_record(data: bytearray, base: int) -> _Read | None:
    """Return offset, time after the batch's, key, value and headers of one record; None if it is invalid."""
    try:
        at = 1  # attributes, which are not used
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
        raise ValueError("length exceeds the record")
    return bytes(data[at : at + length]), at + length


def _decompressed(batch: bytes) -> bytes:
    """Return the batch (format 2) with its records decompressed; its checksum no longer matches.

    Raises:
        ValueError: the records cannot be decompressed, or become more than `MOST_BYTES`.
    """
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
    if not attributes & _CODEC:
        return batch
    records = _expand(attributes & _CODEC, batch[_V2_HEAD.size :])
    length = struct.pack(">i", _V2_HEAD.size - _LENGTH_AT - 4 + len(records))
    plain = _ATTRIBUTES.pack(attributes & ~_CODEC)
    head = batch[:_LENGTH_AT] + length + batch[_LENGTH_AT + 4 : _ATTRIBUTES_AT] + plain
    return head + batch[_ATTRIBUTES_AT + 2 : _V2_HEAD.size] + records


def _expand(codec: int, data: bytes) -> bytes:
    if codec == _SNAPPY:
        try:
            return snappy_decode(data)
        except Exception as error:
            raise ValueError(f"it does not decompress: {error!r}") from error
    if codec not in _modules:
        raise ValueError(f"unknown codec {codec}")
    room = min(max(_FIRST_GUESS * len(data), _LEAST_BYTES), MOST_BYTES)
    while True:
        into = bytearray(room)
        try:
            size: int = _modules[codec].decompress_into(data, into)
        except cramjam.DecompressionError as error:
            if room == MOST_BYTES:
                raise ValueError(f"it does not decompress to {MOST_BYTES} bytes or less: {error}") from None
            room = MOST_BYTES
        else:
            return bytes(memoryview(into)[:size])
