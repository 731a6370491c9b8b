"""Assignment of a group's partitions to its members, made by the member that leads the group. Pure.

Each topic is divided evenly. Partitions left over are dealt so that all members end up with about as many. As many
partitions as possible stay where they are.

A partition moves in two steps, so that no other partition pauses and no two members ever read the same one. While a
member claims a partition, no other member gets it. The claiming member gets an assignment without it, gives it up, and
joins again without the claim (cooperative rebalancing, KIP-429).

The messages between the members have the format that all Kafka tools read (consumer protocol 2).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Bytes, Int16, Int32, Schema, String

PROTOCOL: Final = "infaas-cooperative"
"""Name of the assignment protocol; a group uses one that all its members know."""
_PARTITIONS: Final = Array(("topic", String("utf-8")), ("partitions", Array(Int32)))


class Member(msgspec.Struct, frozen=True):
    """Metadata of a member that joins."""

    topics: frozenset[str]
    owned: frozenset[TopicPartition] = frozenset()
    """Partitions that it reads, or is giving up and has not committed yet."""


def share(partitions: Mapping[str, int], members: Mapping[str, Member]) -> dict[str, set[TopicPartition]]:
    """Return the partitions that each member may read now: the result of `deal`, less claims of other members.

    Args:
        partitions: number of partitions by topic.
        members: all members of the group, by their ids.
    """
    claims: dict[TopicPartition, list[str]] = {}
    for name, member in members.items():
        for partition in member.owned:
            claims.setdefault(partition, []).append(name)
    return {
        name: {partition for partition in dealt if claims.get(partition, [name]) == [name]}
        for name, dealt in deal(partitions, members).items()
    }


def unread(
    partitions: Mapping[str, int], members: Mapping[str, Member], shares: Mapping[str, Collection[TopicPartition]]
) -> frozenset[TopicPartition]:
    """Return the subscribed partitions that no member gets yet, since another one has yet to give them up."""
    given = {partition for share in shares.values() for partition in share}
    return frozenset(partition for dealt in deal(partitions, members).values() for partition in dealt) - given


def deal(partitions: Mapping[str, int], members: Mapping[str, Member]) -> dict[str, set[TopicPartition]]:
    """Return the partitions that each member has in the end, regardless of present claims."""
    dealt: dict[str, set[TopicPartition]] = {name: set() for name in members}
    for topic, count in sorted(partitions.items()):
        readers = sorted(name for name, member in members.items() if topic in member.topics)
        if readers:
            _deal_topic([TopicPartition(topic, number) for number in range(count)], readers, members, dealt)
    return dealt


def _deal_topic(
    partitions: Collection[TopicPartition],
    readers: Collection[str],
    members: Mapping[str, Member],
    dealt: Mapping[str, set[TopicPartition]],
) -> None:
    owned = {name: [partition for partition in partitions if partition in members[name].owned] for name in readers}
    each, more = divmod(len(partitions), len(readers))
    # Those left over go to the members with the fewest partitions of other topics, then to members that own one more
    # already.
    by_need = sorted(readers, key=lambda name: (len(dealt[name]), len(owned[name]) <= each, name))
    quota = {name: each + (place < more) for place, name in enumerate(by_need)}
    left = dict.fromkeys(partitions)
    for name in readers:
        for partition in owned[name]:
            if quota[name] and partition in left:
                dealt[name].add(partition)
                quota[name] -= 1
                del left[partition]
    for name in readers:
        for partition in list(left)[: quota[name]]:
            dealt[name].add(partition)
            del left[partition]


class _Subscription(Struct):
    topics: list[str]
    user_data: bytes | None
    owned: list[tuple[str, list[int]]]

    SCHEMA = Schema(
        ("version", Int16), ("topics", Array(String("utf-8"))), ("user_data", Bytes), ("owned", _PARTITIONS)
    )


class _Assignment(Struct):
    assignment: list[tuple[str, list[int]]]
    user_data: bytes | None

    SCHEMA = Schema(("version", Int16), ("assignment", _PARTITIONS), ("user_data", Bytes))


class PlanNote(msgspec.Struct, frozen=True):
    """Note of the leader about its whole plan, which each member receives with its own assignment."""

    unread: int = 0
    """Number of partitions that the plan assigns to nobody yet, since a member that has to give them up still has
    them."""


def member_bytes(member: Member, counts: Mapping[str, int], generation: int) -> bytes:
    """Return the metadata with which a member joins.

    Args:
        member: the member.
        counts: numbers of partitions by topic, as the member knows them.
        generation: generation that the member comes from; -1: none. Kafka rebalances the group only if the metadata of
            a member has changed; the generation makes sure that a member that joins again always gets a new plan.
    """
    known = msgspec.json.encode(dict(sorted(counts.items())))
    return _Subscription(2, sorted(member.topics), known, _grouped(member.owned)).encode() + Int32.encode(generation)


def read_member(said: bytes) -> tuple[Member, dict[str, int]]:
    """Decode the metadata of a member; return the member, and the numbers of partitions that it knows by topic."""
    found = _Subscription.decode(said)
    owned = frozenset(_ungrouped(found.owned))
    counts = msgspec.json.decode(found.user_data, type=dict[str, int]) if found.user_data else {}
    return Member(frozenset(found.topics), owned), counts


def dealt_bytes(partitions: Iterable[TopicPartition], note: PlanNote) -> bytes:
    """Encode the assignment of one member."""
    return _Assignment(1, _grouped(partitions), msgspec.json.encode(note)).encode()


def read_dealt(said: bytes) -> tuple[frozenset[TopicPartition], PlanNote]:
    """Decode the assignment of one member."""
    if not said:
        return frozenset(), PlanNote()
    found = _Assignment.decode(said)
    note = msgspec.json.decode(found.user_data, type=PlanNote) if found.user_data else PlanNote()
    return frozenset(_ungrouped(found.assignment)), note


def _grouped(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for partition in sorted(partitions):
        found.setdefault(partition.topic, []).append(partition.partition)
    return list(found.items())


def _ungrouped(topics: Iterable[tuple[str, Iterable[int]]]) -> Iterable[TopicPartition]:
    return (TopicPartition(topic, number) for topic, numbers in topics for number in numbers)
