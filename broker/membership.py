"""Who shares the topics of a group, where the broker cannot say: the embedded one never notices that a member died.

Members speak through a topic. Each tells every second who it is and what it reads; who is silent for 4 s is gone. Each
computes by itself, from the same list, which partitions are whose: partitions in order, dealt round to the members in
order. For a moment two members may hold one partition, or views may differ: a record is then processed twice, which
at-least-once allows, and never not at all, since every partition is some member's in each one's view.

A member that leaves says so. One that is killed and started again under the same name is missed by nobody.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec
from aiokafka import TopicPartition

from broker.client import open_admin
from broker.kafka_types import KafkaError, Record
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topics import TopicSpec, ensure_topics

log = logging.getLogger(__name__)

MEMBERS: Final = "infaas.members"
RETENTION_MS: Final = 600_000
TELL_EVERY_S: Final = 1.0
GONE_AFTER_S: Final = 4.0
LISTEN_S: Final = 0.2
"""How long a new member listens for the others before it takes partitions."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says of itself."""

    group: str
    name: str
    topics: tuple[str, ...]
    leaving: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Member).decode


class Membership:
    """One member of one group. `run` calls `take` with its partitions whenever they change."""

    def __init__(
        self, settings: KafkaSettings, group: str, name: str, take: Callable[[set[TopicPartition]], Awaitable[None]]
    ) -> None:
        self._settings = settings
        self._me = Member(group=group, name=name, topics=())
        self._take = take
        self._others: dict[str, Member] = {}
        self._heard: dict[str, float] = {}
        self._tell = asyncio.Event()
        self._changed = asyncio.Event()
        self._partitions: dict[str, int] = {}

    def read(self, topics: Collection[str]) -> None:
        """Share these topics from now on."""
        self._me = msgspec.structs.replace(self._me, topics=tuple(sorted(topics)))
        self._tell.set()
        self._changed.set()

    async def run(self) -> None:
        """Be a member until cancelled; then say that we leave."""
        await ensure_topics(self._settings, [TopicSpec(MEMBERS, 1, RETENTION_MS)])
        client_id = f"member-{self._me.name}"
        async with Tail(self._settings, client_id, [MEMBERS]) as tail, Producer(self._settings, client_id) as producer:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._keep_telling(producer), name="tell members")
                    tasks.create_task(self._keep_hearing(tail), name="hear members")
                    await asyncio.sleep(LISTEN_S)
                    tasks.create_task(self._keep_sharing(), name="share partitions")
            finally:
                await self._say(producer, msgspec.structs.replace(self._me, leaving=True))

    async def _keep_telling(self, producer: Producer) -> None:
        while True:
            self._tell.clear()
            await self._say(producer, self._me)
            await _wait(self._tell, TELL_EVERY_S)

    async def _say(self, producer: Producer, member: Member) -> None:
        try:
            await producer.send_and_wait(MEMBERS, _encode(member), key=member.name.encode())
        except KafkaError as error:
            log.warning("group %s: the other members could not be told: %r", member.group, error)

    async def _keep_hearing(self, tail: Tail) -> None:
        while True:
            for record in await tail.batch():
                self._hear(record)

    def _hear(self, record: Record) -> None:
        try:
            member = _decode(record.value or b"")
        except msgspec.MsgspecError as error:
            log.debug("%s: record %d is no member: %r", MEMBERS, record.offset, error)
            return
        if member.group != self._me.group or member.name == self._me.name:
            return
        if member.leaving:
            self._others.pop(member.name, None)
            self._changed.set()
            return
        self._heard[member.name] = asyncio.get_running_loop().time()
        if self._others.get(member.name) != member:
            # One who just came must hear of us before it takes anything.
            self._others[member.name] = member
            self._tell.set()
            self._changed.set()

    async def _keep_sharing(self) -> None:
        mine: set[TopicPartition] | None = None
        while True:
            self._changed.clear()
            self._drop_silent()
            try:
                await self._count_partitions()
            except KafkaError as error:
                log.warning("group %s: partitions could not be counted: %r", self._me.group, error)
            share = shares([self._me, *self._others.values()], self._partitions)[self._me.name]
            if share != mine:
                await self._take(share)
                mine = share
            await _wait(self._changed, TELL_EVERY_S)

    def _drop_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for name in [name for name in self._others if now - self._heard[name] > GONE_AFTER_S]:
            log.warning("group %s: member %s is gone", self._me.group, name)
            del self._others[name]

    async def _count_partitions(self) -> None:
        unknown = [topic for topic in self._me.topics if topic not in self._partitions]
        if unknown:
            async with open_admin(self._settings) as admin:
                described = await admin.describe_topics(unknown)
            self._partitions |= {t["topic"]: len(t["partitions"]) for t in described if not t["error_code"]}


def shares(members: Iterable[Member], partitions: Mapping[str, int]) -> dict[str, set[TopicPartition]]:
    """The partitions of each member by its name: each partition is exactly one's of those who read its topic."""
    by_name = sorted(members, key=lambda member: member.name)
    found: dict[str, set[TopicPartition]] = {member.name: set() for member in by_name}
    dealt = 0
    for topic in sorted(partitions):
        readers = [member.name for member in by_name if topic in member.topics]
        for partition in range(partitions[topic] if readers else 0):
            found[readers[dealt % len(readers)]].add(TopicPartition(topic, partition))
            dealt += 1
    return found


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
