"""Delay of refusals to clients that retry too early. Pure; the time is an argument.

A refusal is cheap, but clients that retry at once can cause thousands of them a second, at the expense of other
queries. Therefore a client that retries before its retry time, and is refused again, receives the refusal later, at
most by `HOLD_S`. A client that is refused again soon after its retry time gets a wait twice as long, like the back-off
of a well-behaved client. A first refusal, and a refusal to a client that waited, is sent at once; results are never
delayed. A client is one connection, so no client waits because of another. But a proxy sends the queries of many users
over few connections: while a refusal is held, they wait for a connection, so it is held briefly.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

HOLD_S: Final = 0.05
"""Maximum delay of a refusal. With half a second, a client with 256 connections that sent five times the capacity got a
fifth of its answers in time, since its queries waited for a connection."""
_LONGEST_S: Final = 0.5
"""Maximum doubled wait."""
_MOST: Final = 16_384
"""Maximum number of clients that are remembered; a further one evicts the oldest refusal."""


class _Refused(NamedTuple):
    """Refusals to a client so far."""

    at_s: float
    wait_s: float
    until_s: float
    """Time from which on the client may retry."""


class DelayedRefusal(NamedTuple):
    """A refusal with its delay."""

    held_s: float
    """Seconds until the refusal is sent."""
    retry_after_s: float
    """Seconds after that until the client may retry."""


class RefusalBackoff:
    """Retry times of clients that were refused."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._refused: dict[Hashable, _Refused] = {}

    def refuse(self, client: Hashable, asked_s: float, retry_after_s: float, now: float) -> DelayedRefusal:
        """Return the delay and the retry time of a refusal.

        Args:
            client: key of the client's connection.
            asked_s: arrival time of the refused query; a query that arrived before the client's first refusal is not
                delayed.
            retry_after_s: seconds until there may be capacity.
            now: present time in seconds, on the clock of `asked_s`.
        """
        known = self._refused.pop(client, None)
        held_s = 0.0
        if known is None or now >= known.until_s + known.wait_s:
            known = _Refused(now, retry_after_s, now)
        elif asked_s >= known.at_s:
            held_s = min(max(known.until_s - now, 0.0), HOLD_S)
            retry_after_s = max(retry_after_s, min(2 * known.wait_s, _LONGEST_S))
        if len(self._refused) >= self._most:
            del self._refused[next(iter(self._refused))]
        until_s = max(known.until_s, now + held_s + retry_after_s)
        self._refused[client] = _Refused(known.at_s, max(known.wait_s, retry_after_s), until_s)
        return DelayedRefusal(held_s, retry_after_s)
