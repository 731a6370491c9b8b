"""Tests of the assignment of partitions: it is fair, moves few partitions, and assigns no claimed one."""

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.assignment import (
    Member,
    PlanNote,
    deal,
    dealt_bytes,
    member_bytes,
    read_dealt,
    read_member,
    share,
    unread,
)

Shares = dict[str, set[TopicPartition]]
TOPICS = st.dictionaries(st.sampled_from([f"t{n}" for n in range(6)]), st.integers(1, 9), min_size=1)
NAMES = st.sets(st.sampled_from([f"m{n}" for n in range(6)]), min_size=1)


def everything(topics: dict[str, int]) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)}


def members_of(topics: dict[str, int], owned: Shares) -> dict[str, Member]:
    return {name: Member(frozenset(topics), frozenset(has)) for name, has in owned.items()}


def settle(topics: dict[str, int], owned: Shares) -> tuple[Shares, int]:
    """Share in rounds until nothing changes, and return the shares and the number of rounds."""
    for rounds in range(4):
        dealt = share(topics, members_of(topics, owned))
        assert not [p for p in everything(topics) if sum(p in (owned[m] | dealt[m]) for m in owned) > 1], "two have it"
        if dealt == owned:
            return owned, rounds
        owned = dealt
    raise AssertionError("it never settles")


@given(topics=TOPICS, names=NAMES)
def test_deal_divides_each_topic_evenly(topics: dict[str, int], names: set[str]) -> None:
    dealt = deal(topics, members_of(topics, {name: set() for name in names}))
    assert sorted(p for has in dealt.values() for p in has) == sorted(everything(topics))
    for topic in topics:
        counts = [sum(p.topic == topic for p in has) for has in dealt.values()]
        assert max(counts) - min(counts) <= 1


@given(names=NAMES, tasks=st.integers(1, 12))
def test_deal_spreads_topics_of_one_partition(names: set[str], tasks: int) -> None:
    topics = {f"t{number}": 1 for number in range(tasks)}
    counts = [len(has) for has in deal(topics, members_of(topics, {name: set() for name in names})).values()]
    assert max(counts) - min(counts) <= 1


@given(topics=TOPICS, names=NAMES, more=NAMES, data=st.data())
def test_share_settles_within_two_rounds(
    topics: dict[str, int], names: set[str], more: set[str], data: st.DataObject
) -> None:
    owned, _ = settle(topics, {name: set() for name in names})
    staying = data.draw(st.sets(st.sampled_from(sorted(names))))
    after = {name: owned.get(name, set()) if name in staying else set[TopicPartition]() for name in staying | more}
    settled, rounds = settle(topics, after)
    assert rounds <= 2
    assert {p for has in settled.values() for p in has} == everything(topics)
    grown = {topic: count + 1 for topic, count in topics.items()}
    assert {p for has in settle(grown, settled)[0].values() for p in has} == everything(grown)


def test_share_moves_only_the_part_of_a_new_member() -> None:
    topics = {"one": 4, "two": 4}
    owned, _ = settle(topics, {"a": set(), "b": set()})
    after, _ = settle(topics, owned | {"c": set()})
    assert sum(len(owned[name] - after[name]) for name in owned) == len(after["c"]) in (2, 3)


def test_share_withholds_partition_claimed_twice() -> None:
    both = frozenset({TopicPartition("t", 0)})
    members = {name: Member(frozenset({"t"}), both) for name in ("a", "b")}
    assert share({"t": 1}, members) == {"a": set(), "b": set()}


def test_share_respects_subscriptions() -> None:
    members = {"a": Member(frozenset({"t", "u"})), "b": Member(frozenset({"t"}))}
    dealt = share({"t": 2, "u": 2}, members)
    assert not [p for p in dealt["b"] if p.topic == "u"]
    assert len([p for p in dealt["a"] if p.topic == "u"]) == 2


@given(topics=TOPICS, data=st.data())
def test_group_protocol_round_trips_metadata(topics: dict[str, int], data: st.DataObject) -> None:
    owned = frozenset(data.draw(st.sets(st.sampled_from(sorted(everything(topics))))))
    member = Member(frozenset(topics), owned)
    assert read_member(member_bytes(member, topics, 7)) == (member, topics)
    assert read_dealt(dealt_bytes(owned, PlanNote(3))) == (owned, PlanNote(3))
    assert read_dealt(b"") == (frozenset(), PlanNote())


def test_member_bytes_differ_by_generation() -> None:
    member = Member(frozenset({"t"}))
    assert member_bytes(member, {"t": 1}, 1) != member_bytes(member, {"t": 1}, 2)


def test_unread_lists_only_moving_partitions() -> None:
    two = {TopicPartition("t", number) for number in range(2)}
    members = {"a": Member(frozenset({"t"}), frozenset(two)), "b": Member(frozenset({"t"}))}
    shares = share({"t": 2, "of nobody": 1}, members)
    assert unread({"t": 2, "of nobody": 1}, members, shares) == two - shares["a"]
    assert not unread({"t": 2}, members, deal({"t": 2}, members))
