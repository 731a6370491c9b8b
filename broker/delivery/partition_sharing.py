"""Assignment of a group's partitions to its members, made by the member that leads the group. Pure.

Each topic is divided evenly. Partitions left over are dealt so that all members end up with about as many. As many
partitions as possible stay where they are.

A partition moves in two steps, so that no other partition pauses and no two members ever read the same one. While a
member claims a partition, no other member gets it. The claiming member gets an assignment without it, gives it up, and
joins again without the claim (cooperative rebalancing, KIP-429).
"""

from collections.abc import Collection, Mapping

import msgspec
from aiokafka import TopicPartition


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
