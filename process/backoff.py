"""Exponential back-off after failures.

The pause after each failed attempt is twice as long as the one before, up to a limit. Callers count the failures in a
row, and pass the time to `KeyedBackoff`. Only the jitter is random.
"""

import random
from typing import Final

import msgspec

_MOST_DOUBLED: Final = 100
"""Number of doublings after which the pause no longer grows, since a float would overflow."""


class Backoff(msgspec.Struct, frozen=True):
    """Pauses between attempts."""

    first_s: float
    longest_s: float
    jitter: float = 0.0
    """Share of a pause by which it is randomly longer or shorter, so that clients do not retry simultaneously."""

    def pause_s(self, failures: int, least_s: float = 0.0) -> float:
        """Return the seconds to wait after `failures` failures in a row (at least 1), and no less than `least_s`."""
        pause_s = min(self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLED), self.longest_s)
        if self.jitter:
            pause_s *= random.uniform(1 - self.jitter, 1 + self.jitter)
        return max(pause_s, least_s)


class KeyedBackoff:
    """Back-off of each of several keys; times are in seconds on a clock of the caller.

    Args:
        backoff: pauses of each key.
        most: number of keys that are remembered; a further one evicts the key whose failure is the oldest.
    """

    def __init__(self, backoff: Backoff, most: int) -> None:
        self._backoff = backoff
        self._most = most
        self._failures: dict[str, tuple[int, float]] = {}
        """Failures in a row, and the end of the pause, by key; the latest failure is last."""

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, key: str, now_s: float, least_s: float = 0.0) -> None:
        """Begin the next pause of a key, of at least `least_s`."""
        failures = self._failures.pop(key, (0, 0.0))[0] + 1
        self._failures[key] = failures, now_s + self._backoff.pause_s(failures, least_s)
        if len(self._failures) > self._most:
            del self._failures[next(iter(self._failures))]

    def is_due(self, key: str, now_s: float) -> bool:
        """Return true if the key's pause is over."""
        return now_s >= self._failures.get(key, (0, now_s))[1]

    def reset(self, key: str) -> None:
        """Forget the failures of a key, because it has worked."""
        self._failures.pop(key, None)
