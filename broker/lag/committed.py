"""Committed offsets of many groups: one request per coordinator, however many groups it coordinates.

The coordinator of a group is looked up once, and again after it moved. Until it is found, the group is asked again
within the same reading, for a short time: a new cluster needs some seconds to have its first coordinator.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)

from broker.kafka.offsets import FetchOffsets, read_committed

log = logging.getLogger(__name__)

FETCH_OFFSETS_S: Final = 3.0
_AGAIN_S: Final = 0.1
_AT_ONCE: Final = 64
_PASSING: Final = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)

Groups: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Partitions by group and topic."""
Committed: TypeAlias = tuple[str, str, list[tuple[int, int]]]
"""Group, topic, and for each partition its number and committed offset: -1 for none, UNKNOWN for an error."""


class CommittedOffsets:
    """Reader of the committed offsets of groups, which remembers their coordinators; used by one task."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self._coordinators: dict[str, int] = {}
        self._requests: tuple[Groups, dict[int, FetchOffsets]] | None = None

    async def read(self, groups: Groups) -> list[Committed]:
        """Read the committed offsets of these groups; a group that could not be asked is absent."""
        found: list[Committed] = []
        left = groups
        try:
            async with asyncio.timeout(FETCH_OFFSETS_S):
                while True:
                    left = await self._ask(left, found)
                    if not left:
                        break
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            log.warning(
                "committed offsets of group %s and %d other groups are unknown", next(iter(left)), len(left) - 1
            )
        return found

    async def _ask(self, groups: Groups, found: list[Committed]) -> Groups:
        """Send the requests once, and add the answers to `found`; return the groups to be asked again."""
        requests = await self._address(groups)
        again = {group: topics for group, topics in groups.items() if group not in self._coordinators}
        async with asyncio.TaskGroup() as tasks:
            asked = {node: tasks.create_task(self._send(node, request)) for node, request in requests.items()}
        for node, sent in asked.items():
            answer = sent.result()
            if answer is None:
                again |= {group: groups[group] for group, at in self._coordinators.items() if at == node}
                continue
            for group, error, topics in read_committed(answer):
                if not error:
                    found += [(group, topic, offsets) for topic, offsets in topics]
                elif issubclass(kind := for_code(error), _PASSING):
                    again[group] = groups[group]
                else:
                    log.warning("committed offsets of group %s are unknown: %s", group, kind.__name__)
        self._forget(again)
        return again

    async def _send(self, node: int, request: FetchOffsets) -> Any:
        try:
            return await self._client.send(node, request)
        except (KafkaError, OSError) as error:
            log.warning("cannot read committed offsets from broker %d: %r", node, error)
            return None

    # -- coordinators --------------------------------------------------------------------------------------------------

    async def _address(self, groups: Groups) -> dict[int, FetchOffsets]:
        if self._requests is not None and self._requests[0] is groups:
            return self._requests[1]
        await self._find([group for group in groups if group not in self._coordinators])
        self._coordinators = {group: self._coordinators[group] for group in groups if group in self._coordinators}
        by_node: dict[int, dict[str, Mapping[str, Sequence[int]]]] = {}
        for group, node in self._coordinators.items():
            by_node.setdefault(node, {})[group] = groups[group]
        requests = {node: FetchOffsets.of(asked) for node, asked in by_node.items()}
        self._requests = groups, requests
        return requests

    def _forget(self, groups: Collection[str]) -> None:
        if groups:
            self._requests = None
            self._coordinators = {group: node for group, node in self._coordinators.items() if group not in groups}

    async def _find(self, groups: Collection[str]) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def find(group: str) -> None:
            try:
                async with slots:
                    self._coordinators[group] = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
            except (KafkaError, OSError) as error:
                if not isinstance(error, _PASSING):
                    log.warning("the coordinator of group %s is unknown: %r", group, error)

        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(find(group), name="coordinator")
