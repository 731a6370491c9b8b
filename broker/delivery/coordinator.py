"""Coordinator of a group: the broker that holds its committed offsets, looked up again whenever it moves.

Commits have a connection of their own: a member that joins waits on its connection for all others, and records finished
meanwhile must be committed.
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

    def __init__(self, client: AIOKafkaClient, group: str) -> None:
        self.group = group
        self._client = client
        self._node: int | None = None
        self.generation = -1
        """Generation of the membership that commits; -1: none, so every process may commit for the group."""
        self.member_id = ""
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
            self._node = await self._client.coordinator_lookup(CoordinationType.GROUP, self.group)
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
        raise error(self.group)

    # -- committed offsets ---------------------------------------------------------------------------------------------

    async def fetch(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets that the group has committed; partitions without one are absent.

        Raises:
            KafkaError: the coordinator does not answer.
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
        """Commit offsets, and try again for as long as the failure may pass: the caller sets a timeout.

        `note` names the committer.

        Raises:
            KafkaError: the group refuses the commit, for example because we are no longer a member.
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
                if for_code(code) is not UnknownTopicOrPartitionError:  # a deleted topic needs no commit
                    self.check(code)


def _by_topic(pairs: Iterable[tuple[TopicPartition, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for partition, what in pairs:
        found.setdefault(partition.topic, []).append(what)
    return found
