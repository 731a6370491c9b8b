"""Tests of `ReplyRoom`: each reply topic has its share of places; results beyond it wait or are given up."""

from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.undelivered import SHARE, STALL_S, TOPIC_BYTES, TROUBLED_SHARE, ReplyRoom, is_bounded
from schemas.topics import reply_topic, results_topic

PLACES = 80
ROOM = PLACES // SHARE


def test_reply_room_of_one_topic_leaves_places_to_others() -> None:
    room = ReplyRoom[int](PLACES)
    assert sum(room.admit("a", 1) for _ in range(PLACES)) == ROOM
    assert room.admit("b", 1)


def test_reply_room_is_bounded_in_bytes_but_for_one_result() -> None:
    room = ReplyRoom[int](PLACES)
    assert room.admit("a", 3 * TOPIC_BYTES)
    assert not room.admit("a", 1)
    assert room.admit("b", TOPIC_BYTES - 1)
    assert room.admit("b", 1)
    assert not room.admit("b", 1)


def test_reply_room_admits_waiting_results_in_order() -> None:
    room = ReplyRoom[int](PLACES)
    for _ in range(ROOM):
        room.admit("a", 1)
    for number in range(3):
        assert not room.admit("a", 1)
        room.wait("a", 1, number, 0.0)
    assert room.leave("a", 1, acknowledged=True) == [0]
    assert not room.admit("a", 1), "others wait for it"
    assert room.leave("a", 1, acknowledged=False) == [1]
    assert room.take_outside("a") == [2]
    assert not room.waits_outside("a")


def test_reply_topic_is_in_trouble_until_it_acknowledges() -> None:
    room = ReplyRoom[int](PLACES)
    room.admit("a", 1)
    room.admit("a", 1)
    assert not room.in_trouble("a", 1000.0)
    room.failed("a", 10.0)
    assert not room.in_trouble("a", 10.0 + STALL_S / 2)
    room.failed("a", 10.0 + STALL_S / 2)
    assert room.in_trouble("a", 10.0 + STALL_S)
    room.leave("a", 1, acknowledged=True)
    assert not room.in_trouble("a", 1000.0)


def test_reply_room_bounds_all_topics_in_trouble() -> None:
    room = ReplyRoom[int](PLACES)
    for topic in range(PLACES // TROUBLED_SHARE):
        assert not room.overfull
        room.admit(str(topic), 1)
        room.failed(str(topic), 0.0)
    assert not room.overfull
    room.admit("0", 1)
    assert room.overfull


def test_is_bounded_exempts_results_topics() -> None:
    assert not is_bounded(results_topic("digits"))
    assert is_bounded(reply_topic("gateway"))
    assert is_bounded("mine")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["send", "send", "ack", "fail", "end", "drop"]), st.integers(0, 9)
        )
    )
)
def test_reply_room_counts_as_its_model(steps: list[tuple[str, str, int]]) -> None:
    room, inside = ReplyRoom[int](16), dict[str, list[int]]()
    outside, troubled = dict[str, list[int]](), set[str]()
    for topic, step, size in steps:
        within, beyond = inside.setdefault(topic, []), outside.setdefault(topic, [])
        if step == "send":
            if room.admit(topic, size):
                assert not beyond
                within.append(size)
            else:
                room.wait(topic, size, size, 0.0)
                beyond.append(size)
                troubled.add(topic)
        elif step == "drop":
            assert room.take_outside(topic) == beyond
            beyond.clear()
        elif within and step == "fail":
            room.failed(topic, 0.0)
            troubled.add(topic)
        elif within:
            if step == "ack":
                troubled.discard(topic)
            entered = room.leave(topic, within.pop(0), acknowledged=step == "ack")
            assert entered == beyond[: len(entered)]
            within += entered
            del beyond[: len(entered)]
        troubled -= {name for name in troubled if not inside[name]}
        assert len(within) <= 4
        assert room.overfull == (sum(len(inside[name]) for name in troubled) > 8)
    assert all(room.waits_outside(name) == bool(items) for name, items in outside.items())
