"""What the members of a group say to each other, in the format that all Kafka tools read (consumer protocol 1)."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Bytes, Int16, Int32, Schema, String

from broker.delivery.partition_sharing import Member

PROTOCOL: Final = "infaas-cooperative"
"""Name of the way of sharing: a group whose members know several picks one that all know."""
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

    SCHEMA = Schema(("version", Int16), ("assignment", _PARTITIONS), ("user_data", Bytes))


def member_bytes(member: Member, counts: Mapping[str, int]) -> bytes:
    """What a member says when it joins; `counts` are the partitions that it knows of each topic."""
    # Sorted: a member that has nothing new to say must say the very same, or the group would be dealt anew.
    known = msgspec.json.encode(dict(sorted(counts.items())))
    return _Subscription(1, sorted(member.topics), known, _grouped(member.owned)).encode()


def read_member(said: bytes) -> tuple[Member, dict[str, int]]:
    """Read what a member said."""
    found = _Subscription.decode(said)
    owned = frozenset(_ungrouped(found.owned))
    counts = msgspec.json.decode(found.user_data, type=dict[str, int]) if found.user_data else {}
    return Member(frozenset(found.topics), owned), counts


def dealt_bytes(partitions: Iterable[TopicPartition]) -> bytes:
    """What the leader deals to a member."""
    return _Assignment(1, _grouped(partitions), b"").encode()


def read_dealt(said: bytes) -> frozenset[TopicPartition]:
    """Read what the leader dealt."""
    return frozenset(_ungrouped(_Assignment.decode(said).assignment)) if said else frozenset()


def _grouped(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for partition in sorted(partitions):
        found.setdefault(partition.topic, []).append(partition.partition)
    return list(found.items())


def _ungrouped(topics: Iterable[tuple[str, Iterable[int]]]) -> Iterable[TopicPartition]:
    return (TopicPartition(topic, number) for topic, numbers in topics for number in numbers)
