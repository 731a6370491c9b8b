"""The broker that coordinates a group, found again whenever it moved, and what the group has committed there.

Commits have a connection of their own: a member that joins waits for all others on its own one, and what was finished
meanwhile is to be committed.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

_COMMITS: Final = "commits"
_AGAIN_S: Final = 0.05
_FENCED: Final = 82
"""Code that aiokafka does not know: FENCED_INSTANCE_ID."""
_MOVED: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)
_PASSING: Final = (
    *(GroupLoadInProgressError, RequestTimedOutError),
    *(RebalanceInProgressError, IllegalGenerationError),  # we are being dealt partitions anew, and stay a member
)


class Displaced(KafkaError):
    """Another process is a member of the group under our instance id: to join again would displace that one."""


class Coordinator:
    """Way to the coordinator of one group."""

    def __init__(self, client: AIOKafkaClient, group: str) -> None:
        self.group = group
        self._client = client
        self._node: int | None = None
        self.generation = -1
        """Of the membership that commits; -1: none, whoever commits for the group may."""
        self.member_id = ""
        self.epoch = 0
        """Number of times that the group went on without us: offsets from before may be another's by now."""

    async def send(self, request: Any, connection: str) -> Any:
        """Send a request to the coordinator.

        Raises:
            KafkaError: it is not found or does not answer; the next request looks for it anew.
        """
        words: Any = connection  # aiokafka keeps a connection for each broker and such word
        if self._node is None:
            self._node = await self._client.coordinator_lookup(CoordinationType.GROUP, self.group)
        try:
            return await self._client.send(self._node, request, group=words)
        except KafkaError:
            self._node = None
            raise

    def check(self, code: int) -> None:
        """Raise the error of an answer, if it is one."""
        if code == _FENCED:
            raise Displaced("another process has joined under the same name: stop one, or name it differently")
        error = for_code(code)
        if error is NoError:
            return
        if error in _MOVED:
            self._node = None
        raise error(self.group)

    # -- what is committed ---------------------------------------------------------------------------------------------

    async def fetch(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """What the group has committed of these partitions; those of which it never did are absent.

        Raises:
            KafkaError: the coordinator does not say.
        """
        request = OffsetFetchRequest(self.group, list(_by_topic((p, p.partition) for p in partitions).items()))
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
        """Commit; tries for as long as what is in the way may pass, so give it a deadline. `note` says who did.

        Raises:
            KafkaError: the group does not take it, for example since we are no member any more.
        """
        epoch = self.epoch
        while True:
            if epoch != self.epoch:
                raise UnknownMemberIdError(self.group)
            try:
                await self._commit(offsets, note)
            except (*_MOVED, *_PASSING):
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _commit(self, offsets: Mapping[TopicPartition, int], note: str) -> None:
        marks = _by_topic((p, (p.partition, offset, note)) for p, offset in offsets.items())
        request = OffsetCommitRequest(self.group, self.generation, self.member_id, -1, list(marks.items()))
        response = await self.send(request, _COMMITS)
        for _, answers in response.topics:
            for _, code in answers:
                if for_code(code) is not UnknownTopicOrPartitionError:  # whose topic is gone has nothing to commit
                    self.check(code)


def _by_topic(pairs: Iterable[tuple[TopicPartition, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for partition, what in pairs:
        found.setdefault(partition.topic, []).append(what)
    return found
