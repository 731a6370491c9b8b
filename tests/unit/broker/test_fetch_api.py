"""Tests of `fetch_api` against an encoding by aiokafka's types, after Kafka's schema of Fetch, version 12."""

import struct
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch.fetch_api import Fetch, PartitionData, read_fetched
from broker.fetch.fetch_session import SessionRequest
from broker.fetch.fetched_partition import Divergence
from broker.fetch.record_batches import AbortedTransaction

TAGS = ("tags", TaggedFields)


class Tags:
    """Tagged fields, which aiokafka encodes without their sizes."""

    @staticmethod
    def encode(value: dict[int, bytes]) -> bytes:
        return bytes([len(value)]) + b"".join(bytes([tag, len(data)]) + data for tag, data in sorted(value.items()))


WRITTEN_TAGS: Any = Tags
ASKED = (
    *(("partition", Int32), ("leader_epoch", Int32), ("offset", Int64), ("last_epoch", Int32), ("start", Int64)),
    *(("bytes", Int32), TAGS),
)
REQUEST: Any = Schema(
    *(("replica", Int32), ("wait", Int32), ("least", Int32), ("most", Int32), ("isolation", Int8)),
    *(("session", Int32), ("epoch", Int32)),
    ("topics", CompactArray(("topic", CompactString()), ("partitions", CompactArray(*ASKED)), TAGS)),
    ("forgotten", CompactArray(("topic", CompactString()), ("partitions", CompactArray(Int32)), TAGS)),
    ("rack", CompactString()),
    TAGS,
)
PART: Any = (
    *(("partition", Int32), ("error", Int16), ("end", Int64), ("stable", Int64), ("start", Int64)),
    ("aborted", CompactArray(("producer", Int64), ("first", Int64), ("tags", WRITTEN_TAGS))),
    *(("nearer", Int32), ("records", CompactBytes), ("tags", WRITTEN_TAGS)),
)
ANSWER: Any = Schema(
    *(("throttled", Int32), ("error", Int16), ("session", Int32)),
    ("topics", CompactArray(("topic", CompactString()), ("partitions", CompactArray(*PART)), ("tags", WRITTEN_TAGS))),
    ("tags", WRITTEN_TAGS),
)

offsets = st.integers(0, 2**62)
data = st.one_of(st.none(), st.binary(max_size=200))
others = st.dictionaries(st.integers(1, 9), st.binary(max_size=9), max_size=2)
aborted = st.one_of(st.none(), st.lists(st.tuples(offsets, offsets, others), max_size=2))
diverged = st.one_of(st.none(), st.builds(Divergence, st.integers(0, 2**31 - 1), offsets))
parts = st.tuples(
    *(st.integers(0, 9), st.integers(-1, 80), offsets, offsets, offsets, aborted, st.integers(-1, 9), data),
    *(diverged, others),
)
topics = st.lists(st.tuples(st.text(min_size=1, max_size=5), st.lists(parts, max_size=3), others), max_size=3)


def test_fetch_request_groups_partitions_by_topic() -> None:
    read = [
        (TopicPartition("a", 0), (2**40, 3, 100)),
        (TopicPartition("ä", 1), (7, -1, 200)),
        (TopicPartition("a", 2), (0, -1, 1 << 20)),
    ]
    forget = [TopicPartition("b", 3), TopicPartition("b", 4)]
    asked = [
        ("a", [(0, -1, 2**40, 3, -1, 100, {}), (2, -1, 0, -1, -1, 1 << 20, {})], {}),
        ("ä", [(1, -1, 7, -1, -1, 200, {})], {}),
    ]
    expected = REQUEST.encode((-1, 500, 1, 1 << 24, 1, 5, 6, asked, [("b", [3, 4], {})], "", {}))
    assert Fetch.of(SessionRequest(5, 6, read, forget), 500, 1 << 24).encode() == expected


@given(st.integers(-1, 80), st.integers(0, 2**31 - 1), topics)
def test_read_fetched_decodes_any_answer(code: int, session: int, found: list[tuple[Any, ...]]) -> None:
    written = [
        (topic, [(*part[:8], tagged(part[8]) | part[9]) for part in partitions], more)
        for topic, partitions, more in found
    ]
    answer = read_fetched(SimpleNamespace(data=ANSWER.encode((3, code, session, written, {}))))
    assert (answer.code, answer.session) == (code, session)
    assert list(answer.partitions) == [
        PartitionData(
            TopicPartition(topic, number),
            error,
            min(end, stable),
            data or b"",
            [AbortedTransaction(producer, first) for producer, first, _ in aborted or ()],
            diverged,
        )
        for topic, partitions, _ in found
        for number, error, end, stable, _start, aborted, _nearer, data, diverged, _ in partitions
    ]


def tagged(diverged: Divergence | None) -> dict[int, bytes]:
    return {} if diverged is None else {0: struct.pack(">iqb", *diverged, 0)}
