"""Budget of bytes for dead letters, per topic of their records, so that no topic displaces the letters of others.

The dead-letter topic is limited in bytes, and its oldest letters are deleted first. Many large refused records of one
topic would displace all other letters. Each topic therefore has a budget. A letter beyond it keeps only the beginning
of its record, is marked as shortened, and cannot be replayed. Pure: the caller passes the time.
"""

from typing import Final

HEAD_BYTES: Final = 4096
"""Bytes that a letter keeps beyond the budget; a record that is no larger is always kept whole."""
BURST_BYTES: Final = 32 * 1024 * 1024
"""Size of a full budget: bytes of a topic's records that can be kept whole at once."""
_REFILL_S: Final = 3600.0
"""Seconds in which an empty budget refills."""


class LetterBudget:
    """Budgets of the topics that one process reads."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        """Bytes left and the time of that count, by topic."""

    def keep_bytes(self, topic: str, size: int, now_s: float) -> int | None:
        """Take a record of `size` bytes from the budget; return how many bytes to keep, or None to keep all."""
        if size <= HEAD_BYTES:
            return None
        left, since_s = self._left.get(topic, (float(BURST_BYTES), now_s))
        left = min(left + (now_s - since_s) * BURST_BYTES / _REFILL_S, BURST_BYTES)
        taken = size <= left
        self._left[topic] = left - size if taken else left, now_s
        return None if taken else HEAD_BYTES

    def give_back(self, topic: str, size: int) -> None:
        """Return the bytes of a letter that was to be kept whole but was not written."""
        if size > HEAD_BYTES and topic in self._left:
            left, since_s = self._left[topic]
            self._left[topic] = min(left + size, BURST_BYTES), since_s
