"""Sends demands to the autoscaler for variants that queries wait for without an instance, at a limited rate."""

import logging
import math
from typing import TYPE_CHECKING, Final

import msgspec

from broker.producer import Ack, Producer
from schemas.status import Demand
from schemas.topics import DEMAND
from selector.variants import PricedVariant

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

_encode: Final = msgspec.json.Encoder().encode


class DemandSender:
    """Sender of demands. A lost demand is repeated by the next query."""

    def __init__(self, producer: Producer, interval_s: float) -> None:
        """Send at most one demand per variant in each `interval_s`."""
        self._producer = producer
        self._interval_s = interval_s
        self._sent_at: dict[str, float] = {}

    async def send(self, task: str, variant: PricedVariant, now: float, reason: str) -> None:
        """Demand an instance of `variant`, unless that was done within the interval."""
        if now - self._sent_at.get(variant.name, -math.inf) < self._interval_s:
            return
        self._sent_at[variant.name] = now
        demand = Demand(task=task, variant=variant.name, at_ms=self._producer.clock.now_ms(), reason=reason)
        sent = await self._producer.send(DEMAND, _encode(demand), key=variant.name_header)
        sent.add_done_callback(_log_loss)


def _log_loss(sent: "asyncio.Future[Ack]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        log.warning("a demand was not acknowledged: %r", sent.exception())
