"""Send time of a record: the sender's claim if it agrees with the broker's timestamp.

The timestamp is the append time in whole milliseconds. A sender that knows the broker's time gives its send time more
precisely. The claim is used only if it is consistent with the timestamp. Otherwise a sender with a wrong clock, or a
dishonest one, could make its queries appear older or younger.
"""

from typing import Final

ROUNDING_MS: Final = 1.0
"""Tolerance for the rounding of the timestamp and for the sender's error in the broker's time."""
ON_THE_WAY_MS: Final = 100.0
"""Maximum time from the send to the append for our own senders."""

MOST_LINGER_MS: Final = 20.0
"""Maximum time for which a sender may hold a query to batch requests."""


def believed_ms(said_ms: float, append_ms: float, most_ms: float = ON_THE_WAY_MS) -> float:
    """Return `said_ms` if it is credible, else `append_ms`."""
    return said_ms if is_believable(said_ms, append_ms, most_ms) else append_ms


def is_believable(said_ms: float, append_ms: float, most_ms: float) -> bool:
    """Return true if the append time is the claimed send time or at most `most_ms` later."""
    return -ROUNDING_MS <= append_ms - said_ms <= most_ms
