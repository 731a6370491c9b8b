"""Fetches in bytes, against the encoding that aiokafka has of them."""

from types import SimpleNamespace

from aiokafka import TopicPartition
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch.fetch_api import Fetch, PartitionData, read_fetched
from broker.fetch.fetch_session import SessionRequest

offsets = st.integers(0, 2**62)
data = st.one_of(st.none(), st.binary(max_size=20))
aborted = st.one_of(st.none(), st.lists(st.tuples(offsets, offsets), max_size=2))
parts = st.tuples(st.integers(0, 9), st.integers(-1, 80), offsets, offsets, offsets, aborted, st.integers(-1, 9), data)
topics = st.lists(st.tuples(st.text(min_size=1, max_size=5), st.lists(parts, max_size=3)), max_size=3)


def test_a_request_names_partitions_by_topic() -> None:
    read = [
        (TopicPartition("a", 0), (2**40, 100)),
        (TopicPartition("ä", 1), (7, 200)),
        (TopicPartition("a", 2), (0, 1 << 20)),
    ]
    forget = [TopicPartition("b", 3), TopicPartition("b", 4)]
    expected = FetchRequest_v11(
        -1, 500, 1, 1 << 24, 1, 5, 6,
        [("a", [(0, -1, 2**40, -1, 100), (2, -1, 0, -1, 1 << 20)]), ("ä", [(1, -1, 7, -1, 200)])],
        [("b", [3, 4])],
        "",
    )  # fmt: skip
    assert Fetch.of(SessionRequest(5, 6, read, forget), 500, 1 << 24).encode() == expected.encode()


@given(st.integers(-1, 80), st.integers(0, 2**31 - 1), topics)
def test_an_answer_is_read_whatever_it_holds(code: int, session: int, found: list[tuple[str, list[tuple]]]) -> None:  # type: ignore[type-arg]
    encoded = FetchResponse_v11(3, code, session, found).encode()
    answer = read_fetched(SimpleNamespace(data=encoded))
    assert (answer.code, answer.session) == (code, session)
    assert list(answer.partitions) == [
        PartitionData(TopicPartition(topic, number), error, min(end, stable), data or b"", aborted or ())
        for topic, partitions in found
        for number, error, end, stable, _start, aborted, _nearer, data in partitions
    ]
