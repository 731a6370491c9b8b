"""Membership in a consumer group: joins, reads assigned partitions, sends heartbeats, gives up partitions that move.

    join -> assigned: new partitions are read at once; others are given up while the rest is read -> join again
         -> heartbeats, until the group rebalances -> join

Rules.
* Only partitions that move stop. A member reads its other partitions through all of this, and commits in between.
* A partition is given up only once it is drained and committed; until then the member claims it (`partition_sharing`).
* A member that the group removed, because it was silent for too long, has lost all partitions at once: others may read
  them already. It cancels the releases in progress, commits nothing of those partitions, and joins again.
* No assignment outlives its process. With an instance id the member is static: before it joins, it removes the member
  of that name, its killed predecessor, so that the predecessor's partitions are assigned at once. Kafka would give it
  the predecessor's assignment instead, which may be half of a move that nobody completes.
* A plan that leaves a partition to nobody is followed by another one: the member that gives the partition up joins
  again, or else each member does after some seconds.
* A member whose name another process took stops: otherwise the two would displace each other for ever.

This module uses aiokafka's requests, but not its coordinator, which takes all partitions from all members at each
change.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from broker.delivery.coordinator import InstanceFenced
from broker.delivery.group_protocol import PlanNote, dealt_bytes, member_bytes, read_dealt, read_member
from broker.delivery.group_requests import Group
from broker.delivery.partition_sharing import Member, share, unread
from broker.delivery.topic_counts import TopicCounts

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.2
_LEAVE_S: Final = 3.0
_BEAT_S: Final = 1.0
"""Longest time between two heartbeats, whose answers report a rebalance; at most a sixth of the session timeout."""
_UNSETTLED: Final = 0.2
"""Share of that time while partitions move, since the next plan is due at any moment."""
HEAL_S: Final = 5.0
"""Seconds after which a plan that leaves partitions to nobody is replaced."""

Partitions: TypeAlias = frozenset[TopicPartition]


class Membership:
    """Membership in one group; `run` keeps it until cancelled, then call `leave`."""

    def __init__(
        self,
        group: Group,
        topic_counts: TopicCounts,
        *,
        session_s: float,
        on_dealt: Callable[[Partitions], None],
        give_up: Callable[[Partitions], Awaitable[None]],
        on_lost: Callable[[Partitions], None],
        on_refused: Callable[[KafkaError], None],
    ) -> None:
        """Make a membership.

        Args:
            group: the group.
            topic_counts: source of the numbers of partitions.
            session_s: silence in seconds after which the group continues without us.
            on_dealt: called with partitions to read from now on.
            give_up: stops reading partitions, drains and commits them; once it returns another member may read them.
            on_lost: called with partitions that others may read already.
            on_refused: called when Kafka does not let us be a member.
        """
        self.owned: Partitions = frozenset()
        self._group = group
        self._topic_counts = topic_counts
        self._beat_s = min(session_s / 6, _BEAT_S)
        self._on_dealt = on_dealt
        self._give_up = give_up
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._topics: frozenset[str] = frozenset()
        self._joined_with: frozenset[str] | None = None
        """Topics that the current plan was made for; None if there is no plan."""
        self._counts: dict[str, int] = {}
        """Numbers of partitions of our topics at the last join."""
        self._dealt: Partitions = frozenset()
        self._note = PlanNote()
        self._giving_up: Partitions = frozenset()
        self._releases: set[asyncio.Task[None]] = set()
        self._join_again = asyncio.Event()
        self._stop_listening = topic_counts.listen(self._on_metadata)

    @property
    def unread(self) -> int | None:
        """Number of the group's partitions without a reader, by the last plan; None if there is no plan."""
        if self._joined_with != self._topics:
            return None
        return self._note.unread + len(self._dealt & self._giving_up)

    @property
    def missing(self) -> frozenset[str]:
        """Our topics that Kafka did not know at the last join."""
        return self._topics - self._counts.keys()

    def subscribe(self, topics: Collection[str]) -> None:
        """Subscribe to exactly these topics."""
        self._topics = frozenset(topics)
        self._join_again.set()

    async def run(self) -> None:
        """Be a member until cancelled, or until another process takes our name."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._join(tasks)
                    await self._stay()
                except InstanceFenced as error:
                    await self._lose(error)
                    self._on_refused(error)
                    return
                except (UnknownMemberIdError, IllegalGenerationError) as error:
                    await self._lose(error)
                except RebalanceInProgressError:
                    continue
                except (KafkaError, OSError) as error:
                    log.warning("group %s: not joined yet: %r", self._group.name, error)
                    if isinstance(error, InconsistentGroupProtocolError):
                        log.error("group %s has members of another version, waiting until they end", self._group.name)
                    if isinstance(error, GroupAuthorizationFailedError):
                        self._on_refused(error)
                    await asyncio.sleep(_BACKOFF_S)

    async def leave(self) -> None:
        """Leave the group, so that others read on at once.

        A static member leaves, too: its id only helps a process that ends without leaving.
        """
        self._stop_listening()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._group.leave()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("group %s: left without notifying the coordinator: %r", self._group.name, error)

    # -- joining -------------------------------------------------------------------------------------------------------

    async def _join(self, tasks: asyncio.TaskGroup) -> None:
        group = self._group
        topics = self._topics
        self._counts = await self._topic_counts.follow(topics)
        if self._topics == topics:  # else there already is a reason to join again
            self._join_again.clear()
        if not group.member_id:
            await group.evict()
        joined = await group.join(member_bytes(Member(topics, self.owned), self._counts, group.generation))
        dealt = await group.sync(_plan(joined.members) if joined.leads else {})
        self._joined_with = topics
        self._apply(*read_dealt(dealt), tasks)

    def _apply(self, dealt: Partitions, note: PlanNote, tasks: asyncio.TaskGroup) -> None:
        self._dealt, self._note = dealt, note
        new = dealt - self.owned
        gone = self.owned - dealt - self._giving_up
        self.owned |= new
        if new or gone:
            log.info("group %s: %d partitions assigned, %d revoked", self._group.name, len(new), len(gone))
        if new:
            self._on_dealt(new)
        if gone:
            self._giving_up |= gone
            release = tasks.create_task(self._let_go(gone), name=f"give up {len(gone)} partitions")
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)

    async def _let_go(self, gone: Partitions) -> None:
        await self._give_up(gone)
        self._giving_up -= gone
        self.owned -= gone
        self._join_again.set()

    async def _lose(self, error: KafkaError) -> None:
        log.warning("group %s removed this member: %r", self._group.name, error)
        # A release that continued would forget, and commit, partitions that may be assigned to us again.
        releases = set(self._releases)
        for release in releases:
            release.cancel()
        if releases:
            await asyncio.wait(releases)
        lost, self.owned, self._giving_up = self.owned, frozenset(), frozenset()
        self._joined_with, self._dealt = None, frozenset()
        if lost:
            self._on_lost(lost)
        self._group.forget(member=not isinstance(error, IllegalGenerationError))

    # -- staying -------------------------------------------------------------------------------------------------------

    async def _stay(self) -> None:
        """Send heartbeats until there is a reason to join again."""
        clock = asyncio.get_running_loop().time
        planned_at = clock()
        while True:
            unsettled = self._note.unread > 0
            try:
                async with asyncio.timeout(self._beat_s * (_UNSETTLED if unsettled else 1)):
                    await self._join_again.wait()
                    return
            except TimeoutError:
                await self._beat()
            if unsettled and clock() - planned_at > HEAL_S:
                log.warning(
                    "group %s: %d partitions have no reader, joining again", self._group.name, self._note.unread
                )
                return
            if self.missing:
                self._topic_counts.refresh()

    async def _beat(self) -> None:
        try:
            await self._group.beat()
        except (InstanceFenced, UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError):
            raise
        except (KafkaError, OSError) as error:  # the next heartbeat tells whether we are still known
            log.warning("group %s: a heartbeat failed: %r", self._group.name, error)

    def _on_metadata(self) -> None:
        if any(count > self._counts.get(topic, 0) for topic, count in self._topic_counts.known(self._topics).items()):
            self._join_again.set()


def _plan(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the encoded assignments of all members, made from the metadata with which they joined."""
    said = {name: read_member(metadata) for name, metadata in members.items()}
    counts: dict[str, int] = {}
    for _, known in said.values():
        for topic, count in known.items():  # a member may know of partitions that the others do not know yet
            counts[topic] = max(count, counts.get(topic, 0))
    of_all = {name: member for name, (member, _) in said.items()}
    shares = share(counts, of_all)
    note = PlanNote(len(unread(counts, of_all, shares)))
    return {name: dealt_bytes(partitions, note) for name, partitions in shares.items()}
