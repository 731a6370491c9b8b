"""Who of a group's members is to read which partitions: pure, decided by whichever member leads the group.

Each topic is dealt evenly, and the ones left over so that all members end up with about as many. Of that, as much as
can be stays where it is.

A partition moves in two steps, so that nobody else's reading pauses and no two ever read it: while a member says that
it has it, it is given to no other; that one, told to have less, gives it up and joins again without it (cooperative
rebalancing, KIP-429).
"""

from collections.abc import Collection, Mapping

import msgspec
from aiokafka import TopicPartition


class Member(msgspec.Struct, frozen=True):
    """What a member says of itself when it joins."""

    topics: frozenset[str]
    owned: frozenset[TopicPartition] = frozenset()
    """What it reads, or is giving up and has not committed yet."""


def share(partitions: Mapping[str, int], members: Mapping[str, Member]) -> dict[str, set[TopicPartition]]:
    """Decide who may read what now: `deal`, less what others still have.

    Args:
        partitions: number of partitions by topic.
        members: all of the group, by their ids.
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
    """Partitions that somebody subscribes to and nobody is given, since a member that is to read less has them yet."""
    given = {partition for share in shares.values() for partition in share}
    return frozenset(partition for dealt in deal(partitions, members).values() for partition in dealt) - given


def deal(partitions: Mapping[str, int], members: Mapping[str, Member]) -> dict[str, set[TopicPartition]]:
    """Decide who is to have what in the end."""
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
    # One more for those who have least of the other topics, then for those who have it already.
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
