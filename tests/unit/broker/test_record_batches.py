"""Tests of `record_batches`: for any bytes, each offset is a record or damage, in order, and nothing is raised."""

import struct

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, zstd_encode
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch.record_batches import AbortedTransaction, Damage, mark_aborted, read_batch, split
from broker.kafka.types import Record
from tests.unit.broker.batch_builder import batch_builder

CHECKED_FROM = 21
END = 1000


def batch_of(values: list[bytes], first: int = 0) -> bytes:
    builder = batch_builder()
    for number, value in enumerate(values):
        builder.append(number, 7, b"key", value, [("name", b"text"), ("none", None)])
    return struct.pack(">q", first) + bytes(builder.build())[8:]


def checked(batch: bytes) -> bytes:
    """Return the batch with a checksum that fits."""
    return batch[:17] + struct.pack(">I", calc_crc32c(batch[CHECKED_FROM:])) + batch[CHECKED_FROM:]


def read(data: bytes, position: int = 0) -> list[Record | Damage]:
    found: list[Record | Damage] = []
    for batch in split(data, position, END):
        found += read_batch("t", 3, batch, position)
        position = batch.next
    return found


def offsets(found: list[Record | Damage]) -> list[int]:
    return [n for one in found for n in (range(one.first, one.next) if isinstance(one, Damage) else (one.offset,))]


def packed(batch: bytes, codec: int) -> bytes:
    """Return the batch with compressed records."""
    records = {0: bytes, 1: gzip_encode, 3: lz4_encode, 4: zstd_encode}[codec](batch[61:])
    body = batch[12:21] + struct.pack(">h", codec) + batch[23:61] + records
    return checked(batch[:8] + struct.pack(">i", len(body)) + body)


@pytest.mark.parametrize("codec", [0, 1, 3, 4])
@pytest.mark.parametrize("name", [b"na\xff\xfe", b"\xed\xa0\x80\x00"])
def test_read_batch_keeps_bytes_of_header_names(codec: int, name: bytes) -> None:
    found = read(packed(batch_of([b"a", b"b", b"c"]).replace(b"name", name, 1), codec))
    assert [one.value for one in found if not isinstance(one, Damage)] == [b"a", b"b", b"c"]
    assert not isinstance(found[0], Damage)
    assert found[0].headers[0][0].encode(errors="surrogateescape") == name
    assert found[0].headers[1] == ("none", None)
    assert (found[0].key, found[0].timestamp) == (b"key", 7)


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_read_batch_limits_decompressed_size(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.fetch.record_batches.MOST_BYTES", 1 << 20)
    small, large = batch_of([b"0" * 900_000]), batch_of([b"0" * 2_000_000], 1)
    found = read(packed(small, codec) + packed(large, codec) + packed(batch_of([b"after"], 2), codec))
    assert [one.certain if isinstance(one, Damage) else len(one.value or b"") for one in found] == [900_000, True, 5]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5])
def test_read_batch_returns_wrong_codec_as_damage(codec: int) -> None:
    batch = batch_of([b"a", b"b"])
    found = read(checked(batch[:21] + struct.pack(">h", codec) + batch[23:]) + batch_of([b"after"], 2))
    assert [(one.first, one.next) if isinstance(one, Damage) else one.value for one in found] == [(0, 2), b"after"]


def test_read_batch_returns_wrong_checksum_as_uncertain() -> None:
    data = batch_of([b"a", b"b"]) + batch_of([b"wrong"], 2).replace(b"wrong", b"wrung") + batch_of([b"d"], 3)
    found = read(data)
    assert [one.value if not isinstance(one, Damage) else (one.first, one.next, one.certain) for one in found] == [
        b"a",
        b"b",
        (2, 3, False),
        b"d",
    ]


def test_read_batch_skips_records_before_position() -> None:
    assert offsets(read(batch_of([b"a", b"b", b"c"]), position=1)) == [1, 2]


def test_split_omits_incomplete_batch() -> None:
    first = batch_of([b"a"])
    assert offsets(read(first + batch_of([b"b"], 1)[:-1])) == [0]


def test_read_batch_isolates_invalid_record() -> None:
    data = batch_of([b"first", b"second", b"third"])
    at = data.index(b"second") - 1
    found = read(checked(data[:at] + b"\x7e" + data[at + 1 :]))
    assert offsets(found) == [0, 1, 2]
    assert [one.certain if isinstance(one, Damage) else one.value for one in found] == [b"first", True, b"third"]


@given(data=st.data(), fitting=st.booleans(), codec=st.sampled_from([0, 1, 3, 4]))
def test_read_batch_keeps_order_for_any_bytes(data: st.DataObject, fitting: bool, codec: int) -> None:
    batch = bytearray(batch_of([b"value"] * 4, 5))
    for _ in range(data.draw(st.integers(1, 12))):
        batch[data.draw(st.integers(8, len(batch) - 1))] = data.draw(st.integers(0, 255))
    whole = packed(bytes(batch), codec) if codec else bytes(batch)
    found = offsets(read((checked(whole) if fitting else whole) + batch_of([b"after"], 9), position=5))
    assert found == sorted(set(found))
    assert all(5 <= offset < END for offset in found)


def mutated(data: st.DataObject, batch: bytes) -> bytes:
    """Return the batch with some bytes replaced, removed or inserted."""
    changed = bytearray(batch)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    return bytes(changed)


@given(data=st.data(), fitting=st.booleans(), random=st.binary(max_size=40))
def test_split_raises_nothing_on_garbage(data: st.DataObject, fitting: bool, random: bytes) -> None:
    """Random bytes alone rarely reach the records, so valid batches are mutated, some with length and checksum."""
    batch = mutated(data, batch_of([b"first", b"second"], 5))
    if fitting:
        batch = checked(batch[:8] + struct.pack(">i", max(len(batch) - 12, 0)) + batch[12:])
    found = offsets(read(batch + batch_of([b"after"], 7) + random, position=5))
    assert found == sorted(set(found))
    assert all(5 <= offset < END for offset in found)


def of_producer(producer: int, first: int, attributes: int = 0x10) -> bytes:
    """Return a batch of one record of a transaction; with attributes 0x30, the marker that ends one."""
    batch = batch_of([b"%d" % first], first)
    return checked(batch[:21] + struct.pack(">h", attributes) + batch[23:43] + struct.pack(">q", producer) + batch[51:])


@given(st.data())
def test_mark_aborted_excludes_aborted_transactions(data: st.DataObject) -> None:
    log, ended, kept = b"", list[tuple[AbortedTransaction, int]](), list[int]()
    open_: dict[int, tuple[int, bool]] = {}
    end = 0
    for end in range(data.draw(st.integers(1, 30))):
        producer = data.draw(st.integers(0, 3))
        if not producer:
            log += batch_of([b"plain"], end)
            kept.append(end)
        elif producer in open_ and data.draw(st.booleans()):
            first, good = open_.pop(producer)
            log += of_producer(producer, end, 0x30)
            if not good:
                ended.append((AbortedTransaction(producer, first), end))
        else:
            _, good = open_.setdefault(producer, (end, data.draw(st.booleans())))
            log += of_producer(producer, end)
            if good:
                kept.append(end)
    ended += [(AbortedTransaction(producer, first), END) for producer, (first, good) in open_.items() if not good]
    position = data.draw(st.integers(0, end))
    aborted = [transaction for transaction, last in ended if last >= position]  # Kafka reports only these
    batches = split(log, 0, END)[position:]
    mark_aborted(batches, data.draw(st.permutations(aborted)))
    read_ = [one for batch in batches for one in read_batch("t", 3, batch, batch.first)]
    assert not [one for one in read_ if isinstance(one, Damage)]
    assert offsets(read_) == [offset for offset in kept if offset >= position]


def test_read_batch_skips_transaction_marker() -> None:
    assert read(of_producer(7, 5, 0x30), 5) == []
