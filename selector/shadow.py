"""Copies of queries for a shadow version: computed when capacity is idle, and never answered to clients.

A copy goes as an offline query to an instance of the candidate that is idle now; without one there is no copy. So
copies never queue for capacity, and stop under load. Its result, and a copy of the client's result, go to
`infaas.shadows`, where the autoscaler compares them. A copy that Kafka does not accept is dropped, without an effect on
the client's answer.
"""

import time
from functools import partial
from typing import Final

from broker.kafka_types import KafkaError
from broker.producer import Ack, Producer
from schemas import headers as h
from schemas.needs import Mode
from schemas.topics import SHADOWS
from selector.choice import Choice
from selector.cluster_state import ClusterState
from selector.forward import forwarded
from selector.received_query import ReceivedQuery

_CLIENTS: Final = frozenset(
    {
        h.REPLY_TO, h.REPLY_STREAM, h.CORRELATION, h.DEADLINE_MS, h.LATENCY_MS, h.MIN_ACCURACY, h.MAX_COST, h.MODE,
        h.TARGET, h.EXPLAIN, *h.TRACE,
    }
)  # fmt: skip
"""Headers with a client's wishes for its own answer."""


class ShadowSender:
    """Sender of one selector's copies."""

    def __init__(self, state: ClusterState, producer: Producer) -> None:
        self._state = state
        self._producer = producer

    async def send(self, received: ReceivedQuery, copy: Choice, now: float) -> None:
        """Send a copy; errors are ignored."""
        query = received.query
        offset_ms = self._producer.offset_ms(copy.variant.offline_topic, copy.partition.number)
        headers = [
            pair for pair in forwarded(query, copy, received.headers, now, offset_ms, None) if pair[0] not in _CLIENTS
        ]
        headers += (
            (h.REPLY_TO, SHADOWS.encode()),
            (h.MODE, Mode.OFFLINE.encode()),
            (h.TARGET, copy.variant.architecture.encode()),
        )
        instance = copy.instance
        assert instance is not None, "a copy goes where it is served"
        self._state.sent_offline(instance, copy.partition, query.batch, now)
        await self._producer.post(
            copy.variant.offline_topic, received.value, partial(self._acknowledged, copy), key=query.id.encode(),
            headers=headers, partition=copy.partition.number,
        )  # fmt: skip

    def _acknowledged(self, copy: Choice, outcome: Ack | KafkaError) -> None:
        if isinstance(outcome, Ack):
            self._state.acknowledged(copy.instance, copy.partition, outcome.offset, time.monotonic())
        else:
            self._state.failed(copy.partition)
