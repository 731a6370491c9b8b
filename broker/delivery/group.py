"""Consumer group at its coordinator: the broker that holds its committed offsets, looked up again whenever it moves.

`Coordinator` reads and commits offsets; `Group` adds the requests of one member. Commits have a connection of their
own: a member that joins waits on its connection for all others, and records finished meanwhile must be committed.

aiokafka sends heartbeats and departures only without an instance id. With the id, a heartbeat tells a member whose
session expired that another process took its name, and a process can remove the previous member of its name.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    MemberIdRequired,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from broker.delivery.assignment import PROTOCOL
from broker.kafka.encoded_request import EncodedRequest

_COMMITS: Final = "commits"
_AGAIN_S: Final = 0.05
_CONNECTION: Final = "membership"
_CONSUMER: Final = "consumer"
_STRING: Final = String("utf-8")
_FENCED: Final = 82
"""Error code FENCED_INSTANCE_ID, which aiokafka does not know."""
_MOVED: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)
_PASSING: Final = (
    *(GroupLoadInProgressError, RequestTimedOutError),
    *(RebalanceInProgressError, IllegalGenerationError),  # a rebalance is in progress, and we stay a member
)


class InstanceFenced(KafkaError):
    """Another process is a member of the group under our instance id. Joining again would displace that process."""


class Coordinator:
    """Access to the coordinator of one group."""

    def __init__(self, client: AIOKafkaClient, name: str) -> None:
        self.name = name
        self._client = client
        self._node: int | None = None
        self.generation = -1
        """Generation of the membership that commits; -1: none, so every process may commit for the group."""
        self.member_id = ""
        """Id of the member; empty if it is not in the group."""
        self.epoch = 0
        """Number of times that the group continued without us. Partitions of earlier offsets may have another owner
        now."""

    async def send(self, request: Any, connection: str) -> Any:
        """Send a request to the coordinator.

        Raises:
            KafkaError: the coordinator is not found or does not answer; the next request looks it up again.
        """
        words: Any = connection  # aiokafka keeps a connection for each broker and each such name
        if self._node is None:
            self._node = await self._client.coordinator_lookup(CoordinationType.GROUP, self.name)
        try:
            return await self._client.send(self._node, request, group=words)
        except KafkaError:
            self._node = None
            raise

    def check(self, code: int) -> None:
        """Raise the error of an answer; do nothing if its code is 0.

        Raises:
            KafkaError: the error of the code; `InstanceFenced` if another process has joined under our instance id.
        """
        if code == _FENCED:
            raise InstanceFenced(
                "another process has joined under the same name: stop one process, or change its instance id"
            )
        error = for_code(code)
        if error is NoError:
            return
        if error in _MOVED:
            self._node = None
        raise error(self.name)

    # -- committed offsets ---------------------------------------------------------------------------------------------

    async def fetch(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets that the group has committed; partitions without one are absent.

        Raises:
            KafkaError: the coordinator does not answer.
        """
        request = OffsetFetchRequest(self.name, list(_by_topic((p, p.partition) for p in partitions).items()))
        response = await self.send(request, _COMMITS)
        found: dict[TopicPartition, int] = {}
        for topic, answers in response.topics:
            for number, offset, _, code in answers:
                if for_code(code) is not UnknownTopicOrPartitionError:
                    self.check(code)
                if offset >= 0:
                    found[TopicPartition(topic, number)] = offset
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int], note: str) -> None:
        """Commit offsets, and try again for as long as the failure may pass: the caller sets a timeout.

        `note` names the committer.

        Raises:
            KafkaError: the group refuses the commit, for example because we are no longer a member.
        """
        epoch = self.epoch
        while True:
            if epoch != self.epoch:
                raise UnknownMemberIdError(self.name)
            try:
                await self._commit(offsets, note)
            except (*_MOVED, *_PASSING):
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _commit(self, offsets: Mapping[TopicPartition, int], note: str) -> None:
        marks = _by_topic((p, (p.partition, offset, note)) for p, offset in offsets.items())
        request = OffsetCommitRequest(self.name, self.generation, self.member_id, -1, list(marks.items()))
        response = await self.send(request, _COMMITS)
        for _, answers in response.topics:
            for _, code in answers:
                if for_code(code) is not UnknownTopicOrPartitionError:  # a deleted topic needs no commit
                    self.check(code)


def _by_topic(pairs: Iterable[tuple[TopicPartition, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for partition, what in pairs:
        found.setdefault(partition.topic, []).append(what)
    return found


class Joined(NamedTuple):
    """Answer to a join request."""

    members: Mapping[str, bytes]
    """Metadata of each member by its id, if this member leads the group; else empty."""
    leads: bool


class Group(Coordinator):
    """Group at its coordinator, as one member of it sees it; commits carry the identity of the member.

    Each request raises a KafkaError if it is refused.
    """

    def __init__(
        self, client: AIOKafkaClient, name: str, instance_id: str | None, session_ms: int, rebalance_ms: int
    ) -> None:
        """Make a group whose member has not joined.

        Args:
            client: connects to Kafka.
            name: name of the group.
            instance_id: makes the member static; when it starts it removes the previous member of its name.
            session_ms: silence after which the group continues without this member.
            rebalance_ms: time for which the group waits for this member to join again.
        """
        super().__init__(client, name)
        self._instance_id = instance_id
        self._session_ms = session_ms
        self._rebalance_ms = rebalance_ms

    async def evict(self) -> None:
        """Remove the member with our instance id, if there is one."""
        if self._instance_id is not None:
            await self._leave(LeaveGroup.of(self.name, "", self._instance_id))

    async def join(self, metadata: bytes) -> Joined:
        """Join the group, or join it again; wait until all members of the new generation have joined."""
        instance: Any = self._instance_id  # aiokafka's types do not admit None
        while True:
            request = JoinGroupRequest(
                self.name, self._session_ms, self._rebalance_ms, self.member_id, instance, _CONSUMER,
                [(PROTOCOL, metadata)],
            )  # fmt: skip
            joined = await self.send(request, _CONNECTION)
            if for_code(joined.error_code) is MemberIdRequired:  # join again with the id from Kafka
                self.member_id = joined.member_id
                continue
            self.check(joined.error_code)
            break
        self.member_id, self.generation = joined.member_id, joined.generation_id
        leads = joined.leader_id == joined.member_id
        return Joined({member: said for member, *_, said in joined.members} if leads else {}, leads)

    async def sync(self, plan: Mapping[str, bytes]) -> bytes:
        """Return the assignment of this member, once it is known; the leader passes the plan for all members."""
        instance: Any = self._instance_id
        request = SyncGroupRequest(self.name, self.generation, self.member_id, instance, list(plan.items()))
        synced = await self.send(request, _CONNECTION)
        self.check(synced.error_code)
        return synced.member_assignment

    async def beat(self) -> None:
        """Send a heartbeat."""
        request = Heartbeat.of(self.name, self.generation, self.member_id, self._instance_id)
        answer = await self.send(request, _CONNECTION)
        self.check(_HeartbeatAnswer.decode(answer.data).error)

    async def leave(self) -> None:
        """Leave the group, if it is a member."""
        if self.member_id:
            await self._leave(LeaveGroup.of(self.name, self.member_id, None))

    def forget(self, *, member: bool) -> None:
        """Invalidate the generation, and with `member` the id, too; commits begun before then fail."""
        self.generation = -1
        self.epoch += 1
        if member:
            self.member_id = ""

    async def _leave(self, request: "LeaveGroup") -> None:
        answer = _LeaveAnswer.decode((await self.send(request, _CONNECTION)).data)
        for code in (answer.error, *(code for *_, code in answer.members)):
            if for_code(code) is not UnknownMemberIdError:  # it has left already
                self.check(code)


class Heartbeat(EncodedRequest):
    """Heartbeat of a member."""

    API_KEY: ClassVar = 12
    API_VERSION: ClassVar = 3

    @classmethod
    def of(cls, group: str, generation: int, member_id: str, instance_id: str | None) -> "Heartbeat":
        """Encode the request."""
        names = _STRING.encode(member_id) + _STRING.encode(instance_id)
        return cls(_STRING.encode(group) + Int32.encode(generation) + names)


class LeaveGroup(EncodedRequest):
    """Request to remove one member, by its id or by its instance id."""

    API_KEY: ClassVar = 13
    API_VERSION: ClassVar = 3

    @classmethod
    def of(cls, group: str, member_id: str, instance_id: str | None) -> "LeaveGroup":
        """Encode the request."""
        names = _STRING.encode(member_id) + _STRING.encode(instance_id)
        return cls(_STRING.encode(group) + Int32.encode(1) + names)


class _HeartbeatAnswer(Struct):
    error: int

    SCHEMA = Schema(("throttle_ms", Int32), ("error", Int16))


class _LeaveAnswer(Struct):
    error: int
    members: list[tuple[str, str | None, int]]

    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("error", Int16),
        ("members", Array(("member_id", _STRING), ("instance_id", _STRING), ("error", Int16))),
    )
