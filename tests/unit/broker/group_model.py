"""Model of Kafka's coordinator of one classic consumer group, on the clock of an event loop.

It covers Kafka 4: static and dynamic members, generations, the leader's sync, session and rebalance timeouts, and a
failover that restores the last stable state of the group. Three rules are easily overlooked:

* A static member that joins without a member id replaces the member with its instance id. In a stable group this starts
  no rebalance, whatever its metadata, and the answer does not name it as the leader.
* A rebalance that times out continues without dynamic members, but with static ones and their earlier metadata.
* A member that waits for the answer to its join does not expire: the coordinator does not notice that it is gone.
"""

import asyncio
import copy
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final

from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    MemberIdRequired,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from broker.delivery.group import InstanceFenced

Reply = Callable[[Any], None]
"""Callback that takes a result or an error."""
SESSION_S: Final = 6.0


class State(Enum):
    EMPTY = auto()
    PREPARING = auto()
    COMPLETING = auto()
    STABLE = auto()


class GroupMember:
    """Member as the coordinator knows it."""

    def __init__(self, instance: str | None) -> None:
        self.instance = instance
        self.metadata = b""
        self.assignment = b""
        self.join: Reply | None = None
        self.sync: Reply | None = None
        self.left_behind = False
        """True if a generation began without it: other members may own its partitions by now."""
        self.timer: asyncio.TimerHandle | None = None

    def __deepcopy__(self, _memo: Any) -> "GroupMember":
        found = GroupMember(self.instance)
        found.metadata, found.assignment = self.metadata, self.assignment
        return found


class GroupModel:
    """Coordinator of one group."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rebalance_s: float) -> None:
        self._loop = loop
        self._rebalance_s = rebalance_s
        self._ids = 0
        self._pending: dict[str, asyncio.TimerHandle] = {}
        """Timers of dynamic members that have an id and have not joined yet."""
        self._timer: asyncio.TimerHandle | None = None
        self.state = State.EMPTY
        self.generation = 0
        self.leader = ""
        self.members: dict[str, GroupMember] = {}
        self.spoiled_plan: bytes | None = None
        """Assignment that each member gets by the next plan, instead of the leader's."""
        self._saved: tuple[int, str, dict[str, GroupMember]] = 0, "", {}

    # -- requests ------------------------------------------------------------------------------------------------------

    def on_join(self, member_id: str, instance: str | None, metadata: bytes, reply: Reply) -> None:
        if not member_id:
            self._first_join(instance, metadata, reply)
            return
        if member_id in self._pending:
            self._pending.pop(member_id).cancel()
            self._add(member_id, None, metadata, reply)
            return
        member = self._validated(member_id, instance, reply)
        if member is None:
            return
        same = member.metadata == metadata
        if self.state is State.COMPLETING and same:
            self._answer_join(member_id, reply)
        elif self.state is State.STABLE and same and member_id != self.leader:
            self._touch(member_id)
            self._answer_join(member_id, reply)
        else:
            member.metadata, member.join = metadata, reply
            self._prepare()

    def _first_join(self, instance: str | None, metadata: bytes, reply: Reply) -> None:
        self._ids += 1
        member_id = f"{instance or 'dynamic'}-{self._ids}"
        if instance is None:
            self._pending[member_id] = self._loop.call_later(SESSION_S, self._drop_pending, member_id)
            reply(MemberIdRequired(member_id))
            return
        old_id = self._id_of(instance)
        if old_id is None:
            self._add(member_id, instance, metadata, reply)
            return
        old = self.members.pop(old_id)
        for waiting in (old.join, old.sync):
            if waiting is not None:
                waiting(InstanceFenced("model"))
        if old.timer is not None:
            old.timer.cancel()
        new = self.members[member_id] = copy.deepcopy(old)
        new.metadata = metadata
        led_by = self.leader
        if led_by == old_id:
            self.leader = member_id
        self._touch(member_id)
        if self.state is State.STABLE:
            self._save()
            reply((member_id, self.generation, led_by, {}))
        else:
            new.join = reply
            self._prepare()

    def _add(self, member_id: str, instance: str | None, metadata: bytes, reply: Reply) -> None:
        member = self.members[member_id] = GroupMember(instance)
        member.metadata, member.join = metadata, reply
        self.leader = self.leader or member_id
        self._prepare()

    def on_sync(
        self, member_id: str, instance: str | None, generation: int, plan: Mapping[str, bytes], reply: Reply
    ) -> None:
        member = self._validated(member_id, instance, reply, generation)
        if member is None:
            return
        if self.state is State.PREPARING:
            reply(RebalanceInProgressError())
        elif self.state is State.STABLE:
            self._touch(member_id)
            reply(member.assignment)
        else:
            member.sync = reply
            if member_id == self.leader:
                self._stabilize(plan)

    def on_heartbeat(self, member_id: str, instance: str | None, generation: int, reply: Reply) -> None:
        if self._validated(member_id, instance, reply, generation) is None:
            return
        self._touch(member_id)
        reply(RebalanceInProgressError() if self.state is State.PREPARING else None)

    def on_leave(self, member_id: str, instance: str | None, reply: Reply) -> None:
        found = member_id or (self._id_of(instance) if instance is not None else None)
        if found in self.members:
            self._remove(found)
        reply(None)

    def expel(self, instance: str) -> None:
        """Remove a member as if its session had expired."""
        found = self._id_of(instance)
        if found is not None:
            self._remove(found)

    def fail_over(self) -> None:
        """Move the group to another coordinator, which knows only the last stable state."""
        for member in self.members.values():
            for waiting in (member.join, member.sync):
                if waiting is not None:
                    waiting(NotCoordinatorForGroupError())
            if member.timer is not None:
                member.timer.cancel()
        for timer in [*self._pending.values(), *([self._timer] if self._timer else [])]:
            timer.cancel()
        self._pending.clear()
        self._timer = None
        self.generation, self.leader, members = self._saved
        self.members = copy.deepcopy(members)
        self.state = State.STABLE if self.members else State.EMPTY
        for member_id in self.members:
            self._touch(member_id)

    # -- states --------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self.state is State.COMPLETING:
            for member in self.members.values():
                member.assignment = b""
                if member.sync is not None:
                    member.sync(RebalanceInProgressError())
                    member.sync = None
        if self.state is not State.PREPARING:
            self.state = State.PREPARING
            self._start_timer(self._rebalance_s, self._complete)
        self._maybe_complete()

    def _maybe_complete(self) -> None:
        joined = all(member.join is not None for member in self.members.values())
        if self.state is State.PREPARING and not self._pending and joined:
            self._complete()

    def _complete(self) -> None:
        for member_id, member in list(self.members.items()):
            if member.join is None and member.instance is None:
                del self.members[member_id]
                if member.timer is not None:
                    member.timer.cancel()
        joined = [member_id for member_id, member in self.members.items() if member.join is not None]
        if not self.members:
            self.generation += 1
            self.state, self.leader = State.EMPTY, ""
            self._stop_timer()
            self._save()
            return
        if not joined:  # wait until the sessions of the static members expire
            self._start_timer(self._rebalance_s, self._complete)
            return
        if self.leader not in joined:
            self.leader = joined[0]
        self.generation += 1
        self.state = State.COMPLETING
        for member_id, member in self.members.items():
            member.left_behind = member.join is None
            if member.join is not None:
                reply, member.join = member.join, None
                self._answer_join(member_id, reply)
                self._touch(member_id)
        self._start_timer(self._rebalance_s, self._drop_unsynced)

    def _drop_unsynced(self) -> None:
        if self.state is not State.COMPLETING:
            return
        for member_id, member in list(self.members.items()):
            if member.sync is None:
                del self.members[member_id]
                if member.timer is not None:
                    member.timer.cancel()
        self._prepare()

    def _stabilize(self, plan: Mapping[str, bytes]) -> None:
        self.state = State.STABLE
        self._stop_timer()
        for member_id, member in self.members.items():
            member.assignment = plan.get(member_id, b"") if self.spoiled_plan is None else self.spoiled_plan
        self.spoiled_plan = None
        self._save()
        for member_id, member in self.members.items():
            if member.sync is not None:
                reply, member.sync = member.sync, None
                reply(member.assignment)
                self._touch(member_id)

    def _answer_join(self, member_id: str, reply: Reply) -> None:
        leads = member_id == self.leader and self.state is State.COMPLETING
        said = {name: member.metadata for name, member in self.members.items()} if leads else {}
        reply((member_id, self.generation, self.leader, said))

    def _save(self) -> None:
        self._saved = self.generation, self.leader, copy.deepcopy(self.members)

    # -- members -------------------------------------------------------------------------------------------------------

    def _id_of(self, instance: str) -> str | None:
        return next((member_id for member_id, member in self.members.items() if member.instance == instance), None)

    def _validated(
        self, member_id: str, instance: str | None, reply: Reply, generation: int | None = None
    ) -> GroupMember | None:
        error: KafkaError | None = None
        if instance is not None and (found := self._id_of(instance)) != member_id:
            error = UnknownMemberIdError() if found is None else InstanceFenced("model")
        elif member_id not in self.members:
            error = UnknownMemberIdError()
        elif generation is not None and generation != self.generation:
            error = IllegalGenerationError()
        if error is None:
            return self.members[member_id]
        reply(error)
        return None

    def _touch(self, member_id: str) -> None:
        member = self.members[member_id]
        if member.timer is not None:
            member.timer.cancel()
        member.timer = self._loop.call_later(SESSION_S, self._expire, member_id)

    def _expire(self, member_id: str) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        if member.join is not None or member.sync is not None:
            self._touch(member_id)
        else:
            self._remove(member_id)

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id)
        if member.timer is not None:
            member.timer.cancel()
        for waiting in (member.join, member.sync):
            if waiting is not None:
                waiting(UnknownMemberIdError())
        if self.leader == member_id:
            self.leader = next(iter(self.members), "")
        if self.state in (State.STABLE, State.COMPLETING):
            self._prepare()
        else:
            self._maybe_complete()

    def _drop_pending(self, member_id: str) -> None:
        self._pending.pop(member_id, None)
        self._maybe_complete()

    def _start_timer(self, seconds: float, due: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
