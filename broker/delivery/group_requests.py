"""Requests of one member to the coordinator of its group, and the identity that they carry.

aiokafka sends heartbeats and departures only without an instance id. With the id, a heartbeat tells a member whose
session expired that another process took its name, and a process can remove the previous member of its name.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from aiokafka.errors import MemberIdRequired, UnknownMemberIdError, for_code
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from broker.delivery.coordinator import Coordinator
from broker.delivery.group_protocol import PROTOCOL
from broker.encoded_request import EncodedRequest

_CONNECTION: Final = "membership"
_CONSUMER: Final = "consumer"


class Joined(NamedTuple):
    """Answer to a join request."""

    members: Mapping[str, bytes]
    """Metadata of each member by its id, if this member leads the group; else empty."""
    leads: bool


class Group(Protocol):
    """Group as one member of it sees it. Each request raises a KafkaError if it is refused."""

    @property
    def name(self) -> str:
        """Name of the group."""
        ...

    @property
    def member_id(self) -> str:
        """Id of the member; empty if it is not in the group."""
        ...

    @property
    def generation(self) -> int:
        """Generation that the member belongs to; -1: none."""
        ...

    async def evict(self) -> None:
        """Remove the member with our instance id, if there is one."""
        ...

    async def join(self, metadata: bytes) -> Joined:
        """Join the group, or join it again; wait until all members of the new generation have joined."""
        ...

    async def sync(self, plan: Mapping[str, bytes]) -> bytes:
        """Return the assignment of this member, once it is known; the leader passes the plan for all members."""
        ...

    async def beat(self) -> None:
        """Send a heartbeat."""
        ...

    async def leave(self) -> None:
        """Leave the group, if it is a member."""
        ...

    def forget(self, *, member: bool) -> None:
        """Invalidate the generation, and with `member` the id, too; commits begun before then fail."""
        ...


class KafkaGroup(Group):
    """Group at its coordinator; commits carry the identity of its member."""

    def __init__(self, coordinator: Coordinator, instance_id: str | None, session_ms: int, rebalance_ms: int) -> None:
        """Make a group whose member has not joined.

        Args:
            coordinator: holds the generation and member id for commits; they are kept current.
            instance_id: makes the member static; when it starts it removes the previous member of its name.
            session_ms: silence after which the group continues without this member.
            rebalance_ms: time for which the group waits for this member to join again.
        """
        self._coordinator = coordinator
        self._instance_id = instance_id
        self._session_ms = session_ms
        self._rebalance_ms = rebalance_ms

    @property
    def name(self) -> str:
        """Name of the group."""
        return self._coordinator.group

    @property
    def member_id(self) -> str:
        """Id of the member; empty if it is not in the group."""
        return self._coordinator.member_id

    @property
    def generation(self) -> int:
        """Generation that the member belongs to; -1: none."""
        return self._coordinator.generation

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
            joined = await self._coordinator.send(request, _CONNECTION)
            if for_code(joined.error_code) is MemberIdRequired:  # join again with the id from Kafka
                self._coordinator.member_id = joined.member_id
                continue
            self._coordinator.check(joined.error_code)
            break
        self._coordinator.member_id, self._coordinator.generation = joined.member_id, joined.generation_id
        leads = joined.leader_id == joined.member_id
        return Joined({member: said for member, *_, said in joined.members} if leads else {}, leads)

    async def sync(self, plan: Mapping[str, bytes]) -> bytes:
        """Return the assignment of this member, once it is known; the leader passes the plan for all members."""
        instance: Any = self._instance_id
        request = SyncGroupRequest(self.name, self.generation, self.member_id, instance, list(plan.items()))
        synced = await self._coordinator.send(request, _CONNECTION)
        self._coordinator.check(synced.error_code)
        return synced.member_assignment

    async def beat(self) -> None:
        """Send a heartbeat."""
        request = Heartbeat.of(self.name, self.generation, self.member_id, self._instance_id)
        answer = await self._coordinator.send(request, _CONNECTION)
        self._coordinator.check(_HeartbeatAnswer.decode(answer.data).error)

    async def leave(self) -> None:
        """Leave the group, if it is a member."""
        if self.member_id:
            await self._leave(LeaveGroup.of(self.name, self.member_id, None))

    def forget(self, *, member: bool) -> None:
        """Invalidate the generation, and with `member` the id, too; commits begun before then fail."""
        self._coordinator.generation = -1
        self._coordinator.epoch += 1
        if member:
            self._coordinator.member_id = ""

    async def _leave(self, request: "LeaveGroup") -> None:
        answer = _LeaveAnswer.decode((await self._coordinator.send(request, _CONNECTION)).data)
        for code in (answer.error, *(code for *_, code in answer.members)):
            if for_code(code) is not UnknownMemberIdError:  # it has left already
                self._coordinator.check(code)


_STRING: Final = String("utf-8")


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
