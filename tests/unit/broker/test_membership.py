"""Tests of `Membership`: whatever fails, no two members read one partition, and each soon has a live reader.

Also of `UnreadWatch`: the effect of partitions without a reader on readiness, gauge and log.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, MemberIdRequired, RequestTimedOutError
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import REGISTRY

from broker.delivery.assignment import PlanNote, dealt_bytes
from broker.delivery.group import Group, Joined
from broker.delivery.membership import ALARM_S, HEAL_S, Membership, Partitions, TopicCounts, UnreadWatch
from tests.unit.broker.group_model import SESSION_S, GroupModel, Reply
from tests.unit.broker.quick_loop import QuickLoop

GROUP = "test-unread"


class Count:
    """Number of partitions, set by the tests."""

    def __init__(self, now: int | None) -> None:
        self.now = now

    def __call__(self) -> int | None:
        return self.now


def shown() -> float:
    return REGISTRY.get_sample_value("infaas_unread_partitions", {"consumer_group": GROUP}) or 0.0


def test_watch_is_not_ready_before_each_partition_has_a_reader() -> None:
    count = Count(None)
    watch = UnreadWatch(GROUP, count)
    watch.look(0.0)
    assert "not a member" in watch.problem
    assert math.isnan(shown())
    count.now = 2
    watch.look(0.1)
    assert watch.problem == f"2 partitions of group {GROUP} have no reader"
    assert shown() == 2
    count.now = 0
    watch.look(0.2)
    assert watch.problem == ""
    assert shown() == 0


@pytest.mark.parametrize("unread", [3, None])
def test_watch_alarms_once_about_lasting_problem(unread: int | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    count = Count(0)
    watch = UnreadWatch(GROUP, count)
    watch.look(0.0)
    count.now = unread
    watch.look(1.0)
    watch.look(1.0 + ALARM_S)
    assert (watch.problem, caplog.records) == ("", []), "a move takes no longer"
    watch.look(1.1 + ALARM_S)
    watch.look(2.0 + ALARM_S)
    assert watch.problem
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    count.now = 0
    watch.look(3.0 + ALARM_S)
    assert watch.problem == ""
    assert caplog.records[-1].levelname == "INFO"


REQUEST_S: Final = 10.0
SLOW_S: Final = 0.3
DRAINS_S: Final = (0.0, SLOW_S, 2.0, 12.0)
"""Seconds that releases take: none, or the time to finish records in flight and commit."""
REBALANCES_S: Final = (3.0, 6.0)
SETTLED_S: Final = REQUEST_S + SESSION_S + max(REBALANCES_S) + HEAL_S + max(DRAINS_S)
"""Seconds until a group has settled: a request times out, a session expires, and partitions move by the next plan."""
NAMES: Final = ("a", "b", "c")
DYNAMIC: Final = "d"
TOPICS: Final = ("t", "u")


class World:
    """Environment of all processes: coordinator, topics, clock, and delays of requests."""

    def __init__(self, loop: QuickLoop, seed: int) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.group = GroupModel(loop, self.random.choice(REBALANCES_S))
        self.counts = {"t": 4, "u": 1}

    def delay_s(self) -> float:
        return self.random.choice((0.001, 0.001, 0.02, SLOW_S))


class ModelGroup(Group):
    """Group as one process sees it, over a network that may fail. A sent request arrives even if its sender dies."""

    def __init__(self, world: World, instance: str | None) -> None:
        self.name = "model"
        self.member_id = ""
        self.generation = -1
        self._world = world
        self._instance_id = instance
        self._waiting: set[asyncio.Future[Any]] = set()
        self.isolated = False

    async def evict(self) -> None:
        if self._instance_id is not None:
            await self._ask(partial(self._world.group.on_leave, "", self._instance_id))

    async def join(self, metadata: bytes) -> Joined:
        try:
            answer = await self._ask(partial(self._world.group.on_join, self.member_id, self._instance_id, metadata))
        except MemberIdRequired as error:
            self.member_id = error.args[0]
            answer = await self._ask(partial(self._world.group.on_join, self.member_id, self._instance_id, metadata))
        self.member_id, self.generation, leader, said = answer
        return Joined(said, leader == self.member_id)

    async def sync(self, plan: Mapping[str, bytes]) -> bytes:
        sync = self._world.group.on_sync
        return await self._ask(partial(sync, self.member_id, self._instance_id, self.generation, plan))

    async def beat(self) -> None:
        beat = self._world.group.on_heartbeat
        await self._ask(partial(beat, self.member_id, self._instance_id, self.generation))

    async def leave(self) -> None:
        if self.member_id:
            await self._ask(partial(self._world.group.on_leave, self.member_id, None))

    def forget(self, *, member: bool) -> None:
        self.generation = -1
        if member:
            self.member_id = ""

    def cut(self) -> None:
        """Close the connection: its requests fail, but may have been executed."""
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(KafkaConnectionError())

    async def _ask(self, request: Callable[[Reply], None]) -> Any:
        loop, world = self._world.loop, self._world
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.add(answer)

        def arrive(result: Any) -> None:
            if answer.done() or self.isolated:
                return
            if isinstance(result, KafkaError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def reply(result: Any) -> None:
            loop.call_later(world.delay_s(), arrive, result)

        if not self.isolated:
            loop.call_later(world.delay_s(), request, reply)
        try:
            async with asyncio.timeout(REQUEST_S):
                return await answer
        except TimeoutError:
            raise RequestTimedOutError from None
        finally:
            self._waiting.discard(answer)


class ModelTopics(TopicCounts):
    """Metadata of one process, which arrive with a delay."""

    def __init__(self, world: World, group: ModelGroup) -> None:
        self._world = world
        self._group = group
        self._seen: dict[str, int] = {}
        self._listener: Callable[[], None] | None = None

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        await asyncio.sleep(self._world.delay_s())
        self._learn()
        return self.known(topics)

    def known(self, topics: Collection[str]) -> dict[str, int]:
        return {topic: count for topic, count in self._seen.items() if topic in topics}

    def refresh(self) -> None:
        self._world.loop.call_later(self._world.delay_s(), self._learn)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listener = listener
        return self._end

    def _end(self) -> None:
        self._listener = None

    def _learn(self) -> None:
        if not self._group.isolated:
            self._seen = dict(self._world.counts)
            if self._listener is not None:
                self._listener()


class Process:
    """Process with a membership, and the partitions that it reads."""

    def __init__(self, world: World, instance: str | None, topics: Collection[str]) -> None:
        self._world = world
        self.group = ModelGroup(world, instance)
        self.topics = ModelTopics(world, self.group)
        self.subscribed = frozenset(topics)
        self.reading: set[TopicPartition] = set()
        self.refused = False
        self.others: Callable[[], list[Process]] = list
        self.membership = Membership(
            self.group, self.topics, session_s=SESSION_S, on_dealt=self._on_dealt, give_up=self._give_up,
            on_lost=self._on_lost, on_refused=self._on_refused,
        )  # fmt: skip
        self.membership.subscribe(topics)
        self.task = world.loop.create_task(self.membership.run())

    @property
    def knows(self) -> bool:
        """True if no generation of the group began without this member."""
        member = self._world.group.members.get(self.group.member_id)
        return member is not None and not member.left_behind and not self.refused

    def _on_dealt(self, partitions: Partitions) -> None:
        assert not self.reading & partitions
        self.reading |= partitions

    async def _give_up(self, partitions: Partitions) -> None:
        assert partitions <= self.reading
        self.reading -= partitions
        await asyncio.sleep(self._world.random.choice(DRAINS_S))

    def _on_lost(self, partitions: Partitions) -> None:
        self.reading -= partitions

    def _on_refused(self, _error: KafkaError) -> None:
        self.refused = True


class MembershipMachine(RuleBasedStateMachine):
    """Processes that share topics, crash, restart, and lose their network."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuickLoop()
        self.processes: dict[str, Process] = {}

    @initialize(seed=st.integers(0, 1000), count=st.integers(0, 3))
    def begin(self, seed: int, count: int) -> None:
        self.world = World(self.loop, seed)
        for name in NAMES[:count]:
            self.start(name, TOPICS)

    @rule(name=st.sampled_from([*NAMES, DYNAMIC]), topics=st.sampled_from([TOPICS, ("t",)]))
    def start(self, name: str, topics: tuple[str, ...]) -> None:
        if name not in self.processes:
            instance = None if name == DYNAMIC else name

            async def make() -> Process:
                return Process(self.world, instance, topics)

            self.processes[name] = self.loop.run_until_complete(make())

    @rule(name=st.sampled_from([*NAMES, DYNAMIC]))
    def kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.task.cancel()
            self.loop.run_until_complete(asyncio.wait({process.task}))

    @rule(again=st.sets(st.sampled_from(NAMES)))
    def kill_all(self, again: set[str]) -> None:
        """Kill all processes, and start some of them again."""
        for name in list(self.processes):
            self.kill(name)
        for name in sorted(again):
            self.start(name, TOPICS)

    @rule(name=st.sampled_from([*NAMES, DYNAMIC]))
    def stop(self, name: str) -> None:
        """Stop a process cleanly, so that it leaves the group."""
        process = self.processes.get(name)
        if process is not None:
            self.kill(name)
            self.loop.run_until_complete(process.membership.leave())

    @rule(name=st.sampled_from([*NAMES, DYNAMIC]))
    def cut(self, name: str) -> None:
        if name in self.processes:
            self.processes[name].group.cut()

    @rule(name=st.sampled_from([*NAMES, DYNAMIC]), isolated=st.booleans())
    def isolate(self, name: str, isolated: bool) -> None:
        if name in self.processes:
            self.processes[name].group.isolated = isolated

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def expel(self, names: set[str]) -> None:
        """Expire the sessions of members, as if they had sent no heartbeats."""
        for name in sorted(names):
            self.world.group.expel(name)

    @rule()
    def expel_in_a_move(self) -> None:
        """Expire all sessions while a member gives up a partition."""
        if any(process.reading < process.membership.owned for process in self.processes.values()):
            self.expel(set(NAMES))

    @rule()
    def fail_over(self) -> None:
        self.world.group.fail_over()

    @rule(topic=st.sampled_from(TOPICS))
    def grow(self, topic: str) -> None:
        if self.world.counts[topic] < 6:
            self.world.counts[topic] += 1
            for process in self.processes.values():
                process.topics.refresh()

    @rule(name=st.sampled_from(NAMES), topics=st.sampled_from([TOPICS, ("t",)]))
    def subscribe(self, name: str, topics: tuple[str, ...]) -> None:
        if name in self.processes:
            self.processes[name].subscribed = frozenset(topics)
            self.processes[name].membership.subscribe(topics)

    @rule(seconds=st.sampled_from([0.001, 0.005, 0.05, 0.3, 1.0, 3.0, 8.0]))
    def wait(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            self.loop.pass_time(min(0.02, until - self.loop.time()))
            self.no_partition_is_two_processes()

    @invariant()
    def no_partition_is_two_processes(self) -> None:
        owners: dict[TopicPartition, str] = {}
        for name, process in self.processes.items():
            assert process.reading <= process.membership.owned
            if process.knows:
                for partition in process.membership.owned:
                    assert partition not in owners, f"{partition} is read by {name} and {owners[partition]}"
                    owners[partition] = name

    def teardown(self) -> None:
        try:
            for process in self.processes.values():
                process.group.isolated = False
            self.wait(SETTLED_S)
            while refused := [name for name, process in self.processes.items() if process.refused]:
                for name in refused:  # as its supervisor would do
                    self.kill(name)
                    self.start(name, TOPICS)
                self.wait(SETTLED_S)
            self._check_settled()
        finally:
            tasks = {process.task for process in self.processes.values()}
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks))
            self.loop.close()

    def _check_settled(self) -> None:
        subscribed = {topic for process in self.processes.values() for topic in process.subscribed}
        every = {TopicPartition(topic, n) for topic in subscribed for n in range(self.world.counts[topic])}
        read = [partition for process in self.processes.values() for partition in process.reading]
        assert sorted(read) == sorted(every), f"read by nobody: {every - set(read)}"
        for process in self.processes.values():
            assert process.membership.unread == 0
            assert not process.membership.missing


TestMembershipMachine = MembershipMachine.TestCase
TestMembershipMachine.settings = profile(max_examples=80, stateful_step_count=40, deadline=None)


def test_membership_replaces_plan_with_unread_partitions() -> None:
    machine = MembershipMachine()
    machine.begin(seed=1, count=0)
    try:
        machine.world.group.spoiled_plan = dealt_bytes((), PlanNote(unread=5))
        machine.start("a", TOPICS)
        (process,) = machine.processes.values()
        machine.wait(HEAL_S - 2)
        assert (process.reading, process.membership.unread) == (set(), 5)
        machine.wait(5.0)
        assert (len(process.reading), process.membership.unread) == (5, 0)
    finally:
        machine.teardown()
