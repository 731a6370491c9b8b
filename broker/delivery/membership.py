"""Membership in a consumer group: joins, reads assigned partitions, sends heartbeats, gives up partitions that move.

    join -> assigned: new partitions are read at once; others are given up while the rest is read -> join again
         -> heartbeats, until the group rebalances -> join

Rules.
* Only partitions that move stop. A member reads its other partitions through all of this, and commits in between.
* A partition is given up only once it is drained and committed; until then the member claims it (`assignment`).
* A member that the group removed, because it was silent for too long, has lost all partitions at once: others may read
  them already. It cancels the releases in progress, commits nothing of those partitions, and joins again.
* No assignment outlives its process. With an instance id the member is static: before it joins, it removes the member
  of that name, its killed predecessor, so that the predecessor's partitions are assigned at once. Kafka would give it
  the predecessor's assignment instead, which may be half of a move that nobody completes.
* A plan that leaves a partition to nobody is followed by another one: the member that gives the partition up joins
  again, or else each member does after some seconds.
* A member whose name another process took stops: otherwise the two would displace each other for ever.
* A member that has just joined is not ready before each partition of its group has a reader. After that, moves are
  normal, and only partitions without a reader for some seconds are a problem (`UnreadWatch`).

This module uses aiokafka's requests, but not its coordinator, which takes all partitions from all members at each
change.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from prometheus_client import Gauge

from broker.delivery.assignment import (
    Member,
    PlanNote,
    dealt_bytes,
    member_bytes,
    read_dealt,
    read_member,
    share,
    unread,
)
from broker.delivery.group import Group, InstanceFenced

log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.2
_LEAVE_S: Final = 3.0
_BEAT_S: Final = 1.0
"""Longest time between two heartbeats, whose answers report a rebalance; at most a sixth of the session timeout."""
_UNSETTLED: Final = 0.2
"""Share of that time while partitions move, since the next plan is due at any moment."""
HEAL_S: Final = 5.0
"""Seconds after which a plan that leaves partitions to nobody is replaced."""
_REFRESH_S: Final = 2.0
"""Longest time in seconds that a member waits for metadata before it joins: its group waits for it meanwhile."""
ALARM_S: Final = 5.0
"""Seconds without a reader after which there is an alarm; a move takes less."""
_LOOK_S: Final = 0.25

UNREAD: Final = Gauge(
    "infaas_unread_partitions", "Partitions without a reader, as known to a member of the group.", ["consumer_group"]
)

Partitions: TypeAlias = frozenset[TopicPartition]


class Membership:
    """Membership in one group; `run` keeps it until cancelled, then call `leave`."""

    def __init__(
        self,
        group: Group,
        topic_counts: "TopicCounts",
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


class TopicCounts:
    """Numbers of partitions of topics in the metadata of a client, and notice of changes."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        """Follow exactly these topics; return the numbers of partitions of the known ones."""
        self._client.set_topics(topics)
        await asyncio.wait({asyncio.ensure_future(self._client.force_metadata_update())}, timeout=_REFRESH_S)
        return self.known(topics)

    def known(self, topics: Collection[str]) -> dict[str, int]:
        """Return the numbers of partitions of those topics that are known."""
        found = {topic: self._client.cluster.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    def refresh(self) -> None:
        """Request new metadata from Kafka, without waiting for it."""
        self._client.force_metadata_update()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener whenever the metadata may have changed; return a function that ends this."""

        def on_metadata(_: ClusterMetadata) -> None:
            listener()

        self._client.cluster.add_listener(on_metadata)
        return lambda: self._client.cluster.remove_listener(on_metadata)


class UnreadWatch:
    """Watch over the partitions of one group; `run` until cancelled."""

    def __init__(self, group: str, unread: Callable[[], int | None]) -> None:
        """Watch a group; `unread` returns its partitions without a reader, or None if this process is no member."""
        self._group = group
        self._unread = unread
        self._began: float | None = None
        """Time since which there is a problem."""
        self._was_whole = False
        self._alarmed = False
        self.problem = ""
        """Reason why the service is not ready; empty if it is."""

    async def run(self) -> None:
        """Check the group at intervals, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self.look(clock())
            await asyncio.sleep(_LOOK_S)

    def look(self, now: float) -> None:
        """Check the group; `now` is the time of a monotonic clock, in seconds."""
        unread = self._unread()
        UNREAD.labels(self._group).set(math.nan if unread is None else unread)
        if unread == 0:
            if self._alarmed:
                log.info("group %s: each partition has a reader again", self._group)
            self._began, self._was_whole, self._alarmed, self.problem = None, True, False, ""
            return
        words = (
            f"it is not a member of group {self._group}"
            if unread is None
            else f"{unread} partitions of group {self._group} have no reader"
        )
        self._began = now if self._began is None else self._began
        lasts = now - self._began > ALARM_S
        if lasts and not self._alarmed:
            log.error("%s for %.0f s: are all its members alive?", words, ALARM_S)
            self._alarmed = True
        self.problem = words if lasts or not self._was_whole else ""
