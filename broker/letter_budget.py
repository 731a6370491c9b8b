"""Bounds the bytes that dead letters keep whole, by the topic of their records, so that no flood pushes out the rest.

The topic of dead letters is bounded in bytes, and the oldest letters go first. Whoever has many large records refused
would push out everybody else's. So each topic of records has a budget: a letter beyond it keeps only the beginning of
its record, says so, and cannot be replayed. Pure: the time comes in.
"""

from typing import Final

HEAD_BYTES: Final = 4096
"""Bytes that a letter keeps beyond the budget; a record that is no larger is kept whole in any case."""
BURST_BYTES: Final = 32 * 1024 * 1024
"""Bytes of a topic's records that are kept whole at once."""
_REFILL_S: Final = 3600.0
"""Seconds after which a budget that was used up is whole again."""


class LetterBudget:
    """Budgets of the topics that one process reads records from."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        """By topic the bytes that were left, and when."""

    def keep_bytes(self, topic: str, size: int, now_s: float) -> int | None:
        """How much to keep of a record of `size` bytes; None: all of it."""
        if size <= HEAD_BYTES:
            return None
        left, since_s = self._left.get(topic, (float(BURST_BYTES), now_s))
        left = min(left + (now_s - since_s) * BURST_BYTES / _REFILL_S, BURST_BYTES)
        taken = size <= left
        self._left[topic] = left - size if taken else left, now_s
        return None if taken else HEAD_BYTES

    def give_back(self, topic: str, size: int) -> None:
        """Note that a letter that was to be kept whole was not written."""
        if size > HEAD_BYTES and topic in self._left:
            left, since_s = self._left[topic]
            self._left[topic] = min(left + size, BURST_BYTES), since_s
