"""What happens to a consumer's partitions when the members of its group share them anew."""

import logging
from collections.abc import Awaitable, Callable, Collection

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

log = logging.getLogger(__name__)


class RebalanceListener(ConsumerRebalanceListener):
    """Listener that gives up partitions in good order when the group protocol takes them."""

    def __init__(
        self, release: Callable[[Collection[TopicPartition]], Awaitable[None]], assigned: Callable[[], None]
    ) -> None:
        self._release = release
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - or a coroutine
        """Give up what was taken before it is given to others."""
        await self._release(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - or a coroutine
        """Begin with what was given."""
        log.info("sharing: got %d partitions", len(assigned))
        self._assigned()
