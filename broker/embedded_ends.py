"""Where partitions of the embedded broker end.

Asked for the latest offset, it answers the one after the *first* record of the last batch, so that a lag of 250 records
that were sent at once would be read as 1. A fetch tells the truth beside its records; so each partition that moved is
asked once that way. Used for the embedded broker only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from numpy.typing import NDArray

from broker.offsets import UNKNOWN

_BYTES: Final = 1
"""The least: one batch comes all the same."""
_WAIT_MS: Final = 10
"""Given no time at all it answers nothing."""


class EmbeddedEnds:
    """Of one set of partitions, by column."""

    def __init__(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions = partitions
        self._said = np.full(len(partitions), UNKNOWN, np.int64)
        self._ends = self._said

    async def correct(self, client: AIOKafkaClient, said: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ends, given those that the broker says.

        Raises:
            KafkaError: it does not answer.
        """
        moved = np.flatnonzero((said != self._said) & (said > 0)).tolist()
        ends = np.where(said == self._said, self._ends, said)
        if moved:
            high = await self._high(client, {self._partitions[column]: int(said[column]) for column in moved})
            for column in moved:
                ends[column] = max(said[column], high.get(self._partitions[column], UNKNOWN))
        self._said, self._ends = said, ends
        return ends

    async def _high(self, client: AIOKafkaClient, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, number), offset in offsets.items():
            by_topic.setdefault(topic, []).append((number, offset, _BYTES))
        request = FetchRequest(_WAIT_MS, 0, _BYTES, 0, list(by_topic.items()))
        answer: Any = await client.send(client.get_random_node(), request)
        return {
            TopicPartition(topic, number): high
            for topic, found in answer.topics
            for number, error, high, *_ in found
            if not error
        }
