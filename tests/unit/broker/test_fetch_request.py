"""Tests of fetch requests: the longest wait, the session, and the encoding.

The encoding is compared with one by aiokafka's types, after Kafka's schema of Fetch, version 12. Whatever is lost, the
broker reads the wanted partitions from the wanted positions.
"""

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

from broker.fetch.fetch_request import (
    ONCE,
    Fetch,
    FetchPace,
    FetchSession,
    PartitionData,
    Place,
    SessionRequest,
    read_fetched,
)
from broker.fetch.fetched_partition import Divergence
from broker.fetch.record_batches import AbortedTransaction
from broker.kafka.settings import KafkaSettings

SETTINGS = KafkaSettings(fetch_max_wait_ms=10)


def test_fetch_pace_waits_longer_until_first_record() -> None:
    pace = FetchPace(SETTINGS)
    assert [pace.wait_ms(at) for at in (100.0, 101.9, 102.0, 500.0)] == [10, 10, 200, 200]
    pace.found(500.1)
    assert [pace.wait_ms(at) for at in (500.1, 502.0, 502.2)] == [10, 10, 200]


def test_lazy_fetch_pace_shortens_for_successive_records() -> None:
    pace = FetchPace(SETTINGS, lazy=True)
    assert [pace.wait_ms(at) for at in (100.0, 100.3)] == [10, 200]
    pace.found(101.0)
    assert pace.wait_ms(101.0) == 200
    pace.found(101.1)
    assert pace.wait_ms(101.1) == 10


def test_fetch_pace_stays_within_request_timeout() -> None:
    settings = KafkaSettings(fetch_max_wait_ms=500, request_timeout_ms=2_000)
    assert FetchPace(settings).long_ms == 1_000
    assert FetchPace(settings, longest_ms=100).long_ms == 500


def test_fetch_pace_is_short_if_broker_wakes_no_fetch() -> None:
    assert FetchPace(KafkaSettings(), wakes=False).wait_ms(100.0) == 10
    assert FetchPace(KafkaSettings(), wakes=True).wait_ms(100.0) == 500
    assert FetchPace(KafkaSettings(fetch_max_wait_ms=70), wakes=False).wait_ms(100.0) == 70


PARTITIONS = [TopicPartition(topic, number) for topic in "ab" for number in range(3)]
UNKNOWN, WRONG_EPOCH = 70, 71

wanted = st.dictionaries(
    st.sampled_from(PARTITIONS), st.tuples(st.integers(0, 3), st.integers(-1, 1), st.sampled_from([10, 20]))
)
fates = st.sampled_from(["answered", "request lost", "answer lost", "broker forgets", "no session given"])


class ModelBroker:
    """Fetch sessions as Kafka keeps them."""

    def __init__(self) -> None:
        self.sessions: dict[int, dict[TopicPartition, Place]] = {}
        self._epochs: dict[int, int] = {}
        self._made = 0

    def take(self, request: SessionRequest, *, give: bool) -> tuple[int, int, dict[TopicPartition, Place]]:
        """Return the error code, the session, and the partitions that are read."""
        if request.epoch <= 0:
            self.sessions.pop(request.session, None)
            assert not request.forget
            if not give or request.epoch == ONCE:
                return 0, 0, dict(request.read)
            self._made += 1
            self.sessions[self._made], self._epochs[self._made] = dict(request.read), 1
            return 0, self._made, dict(request.read)
        session = self.sessions.get(request.session)
        if session is None:
            return UNKNOWN, 0, {}
        if self._epochs[request.session] != request.epoch:
            return WRONG_EPOCH, 0, {}
        self._epochs[request.session] += 1
        session.update(request.read)
        for partition in request.forget:
            del session[partition]
        return 0, request.session, dict(session)


def request_for(session: FetchSession, places: dict[TopicPartition, Place]) -> SessionRequest:
    """Want exactly these places, and return the next request."""
    for partition in PARTITIONS:
        if partition in places:
            assert session.want(partition, places[partition]) == (session.sent(partition) != places[partition])
        else:
            session.forget(partition)
    assert len(session) == len(places)
    request = session.request()
    assert {partition: session.sent(partition) for partition in places} == places
    return request


@given(st.lists(st.tuples(wanted, fates), max_size=20), st.booleans())
def test_fetch_session_reads_wanted_positions_after_losses(
    steps: list[tuple[dict[TopicPartition, Place], str]], lasting: bool
) -> None:
    broker, session = ModelBroker(), FetchSession(lasting=lasting)
    for places, fate in steps:
        if fate == "broker forgets":
            broker.sessions.clear()
        request = request_for(session, places)
        if fate == "request lost":
            continue
        code, number, read = broker.take(request, give=fate != "no session given")
        if fate == "answer lost":
            continue
        if code:
            assert fate == "broker forgets"
            code, number, read = broker.take(session.request(), give=True)
        assert (code, read) == (0, places)
        session.answered(number)
        assert session.is_kept == bool(number)
        assert lasting or not broker.sessions


def test_fetch_session_sends_only_changes() -> None:
    broker, session = ModelBroker(), FetchSession()
    a, b, c = PARTITIONS[:3]
    session.answered(broker.take(request_for(session, {a: (5, 2, 10), b: (6, 2, 10)}), give=True)[1])
    request = request_for(session, {a: (7, 2, 10), c: (0, 2, 10)})
    assert (request.read, request.forget) == ([(a, (7, 2, 10)), (c, (0, 2, 10))], [b])
    session.answered(broker.take(request, give=True)[1])
    unchanged = request_for(session, {a: (7, 2, 10), c: (0, 2, 10)})
    assert (unchanged.read, unchanged.forget) == ([], [])


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
