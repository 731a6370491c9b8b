"""The moment at which a record was sent: what its sender said of it, as far as the broker's timestamp bears it out.

The timestamp is when the broker appended the record, in whole milliseconds. A sender that knows the broker's time says
more finely when it sent it. That is advice: one that disagrees is not believed, or whoever errs about the time, or
would like to, could age its queries, or make them younger.
"""

from typing import Final

ROUNDING_MS: Final = 1.0
"""How much the timestamp is rounded down, and how exactly a sender knows the broker's time."""
ON_THE_WAY_MS: Final = 100.0
"""How long one of our own senders, and the way to the broker, may take."""

MOST_LINGER_MS: Final = 20.0
"""How long a sender may keep a query for others to go with it."""


def believed_ms(said_ms: float, append_ms: float, most_ms: float = ON_THE_WAY_MS) -> float:
    """`said_ms` if that is believable, else `append_ms`."""
    return said_ms if is_believable(said_ms, append_ms, most_ms) else append_ms


def is_believable(said_ms: float, append_ms: float, most_ms: float) -> bool:
    """Whether the record was appended when it says it was sent, or at most `most_ms` later."""
    return -ROUNDING_MS <= append_ms - said_ms <= most_ms
