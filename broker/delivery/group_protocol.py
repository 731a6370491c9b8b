"""Messages between the members of a group, in the format that all Kafka tools read (consumer protocol 2)."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Bytes, Int16, Int32, Schema, String

from broker.delivery.partition_sharing import Member

PROTOCOL: Final = "infaas-cooperative"
"""Name of the assignment protocol; a group uses one that all its members know."""
_PARTITIONS: Final = Array(("topic", String("utf-8")), ("partitions", Array(Int32)))


class _Subscription(Struct):
    topics: list[str]
    user_data: bytes | None
    owned: list[tuple[str, list[int]]]

    SCHEMA = Schema(
        ("version", Int16),
        ("topics", Array(String("utf-8"))),
        ("user_data", Bytes),
        ("owned", _PARTITIONS),
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
