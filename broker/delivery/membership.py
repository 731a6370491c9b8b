"""A member of a consumer group: joins, hears what is its to read, says that it lives, gives up what others are to have.

    join -> dealt: what is new is read at once; what is to go is given up beside the reading of all else -> join again
         -> heartbeats, until the group is dealt anew -> join

Rules.
* Only what moves stops. What a member keeps it reads on through all of this, and commits in between.
* It is given up when it is drained and committed, not before, and claimed until then (`partition_sharing`).
* Whom the group no longer knows, for it was silent for too long, has lost all at once: others may read it already. It
  commits nothing of that, and joins anew.
* With an instance id the member is static: one that comes back within the session timeout is dealt what it had, and
  the others notice nothing.

Written on aiokafka's requests, not on its coordinator: that one takes everything from everybody at each change.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    KafkaError,
    MemberIdRequired,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from broker.delivery.coordinator import Coordinator
from broker.delivery.group_protocol import PROTOCOL, dealt_bytes, member_bytes, read_dealt, read_member
from broker.delivery.partition_sharing import Member, share

log = logging.getLogger(__name__)

_CONNECTION: Final = "membership"
_CONSUMER: Final = "consumer"
_BACKOFF_S: Final = 0.2
_LEAVE_S: Final = 3.0

Partitions: TypeAlias = frozenset[TopicPartition]


class Membership:
    """Membership in one group; `run` keeps it until cancelled, then `leave`."""

    def __init__(
        self,
        client: AIOKafkaClient,
        coordinator: Coordinator,
        *,
        instance_id: str | None,
        session_ms: int,
        rebalance_ms: int,
        on_dealt: Callable[[Partitions], None],
        give_up: Callable[[Partitions], Awaitable[None]],
        on_lost: Callable[[Partitions], None],
        on_refused: Callable[[KafkaError], None],
    ) -> None:
        """Make a membership.

        Args:
            client: knows the topics.
            coordinator: its generation and member id are kept current, for commits.
            instance_id: makes the member static.
            session_ms: silence after which the group goes on without us.
            rebalance_ms: how long the group waits for a member that is to join again.
            on_dealt: is called with what is ours to read from now on.
            give_up: stops reading, drains and commits what is to go; once it returns another may read it.
            on_lost: is called with what others may read already.
            on_refused: is called when Kafka does not let us be a member.
        """
        self.owned: Partitions = frozenset()
        self._client = client
        self._coordinator = coordinator
        self._instance_id: Any = instance_id  # aiokafka's types do not admit that there may be none
        self._session_ms = session_ms
        self._rebalance_ms = rebalance_ms
        self._on_dealt = on_dealt
        self._give_up = give_up
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._topics: frozenset[str] = frozenset()
        self._counts: dict[str, int] = {}
        """Partitions of our topics when we joined last."""
        self._giving_up: Partitions = frozenset()
        self._join_again = asyncio.Event()
        client.cluster.add_listener(self._on_metadata)

    def subscribe(self, topics: Collection[str]) -> None:
        """Read these topics from now on."""
        self._topics = frozenset(topics)
        self._join_again.set()

    async def run(self) -> None:
        """Be a member until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._join(tasks)
                    await self._stay()
                except (UnknownMemberIdError, IllegalGenerationError) as error:
                    self._lose(error)
                except RebalanceInProgressError:
                    continue
                except (KafkaError, OSError) as error:
                    log.warning("group %s: not joined yet: %r", self._coordinator.group, error)
                    if isinstance(error, GroupAuthorizationFailedError):
                        self._on_refused(error)
                    await asyncio.sleep(_BACKOFF_S)

    async def leave(self) -> None:
        """Leave the group: others read on at once. A static member leaves, too: it is for those who could not say."""
        self._client.cluster.remove_listener(self._on_metadata)
        if not self._coordinator.member_id:
            return
        try:
            async with asyncio.timeout(_LEAVE_S):
                request = LeaveGroupRequest(self._coordinator.group, self._coordinator.member_id)
                await self._coordinator.send(request, _CONNECTION)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("group %s: left without a word: %r", self._coordinator.group, error)

    # -- joining -------------------------------------------------------------------------------------------------------

    async def _join(self, tasks: asyncio.TaskGroup) -> None:
        coordinator = self._coordinator
        self._client.set_topics(self._topics)  # not those that it had before: they may be gone
        await self._client.force_metadata_update()
        self._join_again.clear()
        self._counts = self._count(self._topics)
        joined = await self._request_to_join()
        coordinator.member_id, coordinator.generation = joined.member_id, joined.generation_id
        plan: dict[str, Partitions] = {}
        if joined.leader_id == joined.member_id:
            plan = await self._plan({member: read_member(said) for member, *_, said in joined.members})
        request = SyncGroupRequest(
            coordinator.group,
            joined.generation_id,
            joined.member_id,
            self._instance_id,
            [(member, dealt_bytes(partitions)) for member, partitions in plan.items()],
        )
        synced = await coordinator.send(request, _CONNECTION)
        coordinator.check(synced.error_code)
        self._apply(read_dealt(synced.member_assignment), tasks)

    async def _request_to_join(self) -> Any:
        coordinator = self._coordinator
        said = member_bytes(Member(self._topics, self.owned), self._counts)
        while True:
            request = JoinGroupRequest(
                coordinator.group, self._session_ms, self._rebalance_ms, coordinator.member_id,
                self._instance_id, _CONSUMER, [(PROTOCOL, said)],
            )  # fmt: skip
            joined = await coordinator.send(request, _CONNECTION)
            error = for_code(joined.error_code)
            if error is MemberIdRequired:  # the group remembers only those who come back with the id it gave out
                coordinator.member_id = joined.member_id
                continue
            if error is InconsistentGroupProtocolError:
                log.error("group %s has members of another version, waiting until they are gone", coordinator.group)
            coordinator.check(joined.error_code)
            return joined

    async def _plan(self, members: Mapping[str, tuple[Member, Mapping[str, int]]]) -> dict[str, Partitions]:
        topics = {topic for member, _ in members.values() for topic in member.topics}
        await self._learn(topics)
        counts = self._count(topics)
        for _, known in members.values():
            for topic, count in known.items():  # one of them may know of partitions that we have not heard of
                counts[topic] = max(count, counts.get(topic, 0))
        shares = share(counts, {name: member for name, (member, _) in members.items()})
        return {name: frozenset(partitions) for name, partitions in shares.items()}

    def _apply(self, dealt: Partitions, tasks: asyncio.TaskGroup) -> None:
        new = dealt - self.owned
        gone = self.owned - dealt - self._giving_up
        self.owned |= new
        if new or gone:
            log.info("group %s: %d partitions more to read, %d less", self._coordinator.group, len(new), len(gone))
        if new:
            self._on_dealt(new)
        if gone:
            self._giving_up |= gone
            tasks.create_task(self._let_go(gone), name=f"give up {len(gone)} partitions")

    async def _let_go(self, gone: Partitions) -> None:
        await self._give_up(gone)
        self._giving_up -= gone
        self.owned -= gone
        self._join_again.set()

    def _lose(self, error: KafkaError) -> None:
        log.warning("group %s went on without us: %r", self._coordinator.group, error)
        lost, self.owned = self.owned, frozenset()
        self._coordinator.member_id, self._coordinator.generation = "", -1
        if lost:
            self._on_lost(lost)

    # -- staying -------------------------------------------------------------------------------------------------------

    async def _stay(self) -> None:
        """Send heartbeats until there is a reason to join again."""
        while True:
            try:
                async with asyncio.timeout(self._session_ms / 6000):
                    await self._join_again.wait()
                    return
            except TimeoutError:
                await self._beat()

    async def _beat(self) -> None:
        coordinator = self._coordinator
        try:
            request = HeartbeatRequest(coordinator.group, coordinator.generation, coordinator.member_id)
            answer = await coordinator.send(request, _CONNECTION)
            coordinator.check(answer.error_code)
        except (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError):
            raise
        except (KafkaError, OSError) as error:  # it may have moved: whether we are still known, the next one tells
            log.warning("group %s: a heartbeat failed: %r", coordinator.group, error)

    # -- topics --------------------------------------------------------------------------------------------------------

    async def _learn(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._client.add_topic(topic)
        await self._client.force_metadata_update()

    def _count(self, topics: Collection[str]) -> dict[str, int]:
        known = {topic: self._client.cluster.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in known.items() if partitions}

    def _on_metadata(self, _: ClusterMetadata) -> None:
        if any(count > self._counts.get(topic, 0) for topic, count in self._count(self._topics).items()):
            self._join_again.set()
