"""How long the refusal of a client that asks again before it was told to is held back: pure, the time comes in.

A refusal is cheap, and yet clients that ask again as soon as they are refused have the machine make thousands a second,
at the cost of those who are answered. So who asks before the moment that its last refusal named, and is refused again,
reads of it no sooner than at that moment. And who is refused again soon after it is told to wait twice as long, as
clients that back off would by themselves. Whoever waits as told, and whoever is refused for the first time, is told at
once; an answer is never held back. A client is one connection, so nobody waits for what another does.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

_LONGEST_S: Final = 0.5
"""Many may share a proxy's connection: none is held, or told to wait, for longer than that for what others do there."""
_MOST: Final = 16_384
"""Clients that are remembered; the one that was refused longest ago is forgotten for another."""


class _Told(NamedTuple):
    """What a client was told."""

    at_s: float
    wait_s: float
    until_s: float
    """When it shall come back."""


class PacedRefusal(NamedTuple):
    """How a client is refused."""

    held_s: float
    """Seconds until it is told."""
    retry_after_s: float
    """Seconds after which it shall come back then."""


class RetryPacing:
    """When each of the clients that were refused shall come back."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._told: dict[Hashable, _Told] = {}

    def refuse(self, client: Hashable, asked_s: float, retry_after_s: float, now: float) -> PacedRefusal:
        """Decide how a client is refused that might come back after `retry_after_s`.

        Args:
            client: who asks.
            asked_s: when the query came that is refused: what was on its way before the client was told, heeds it.
            retry_after_s: seconds after which there may be room.
            now: time on the clock of `asked_s`, in seconds.
        """
        told = self._told.pop(client, None)
        held_s = 0.0
        if told is None or now >= told.until_s + told.wait_s:
            told = _Told(now, retry_after_s, now)
        elif asked_s >= told.at_s:
            held_s = min(max(told.until_s - now, 0.0), _LONGEST_S)
            retry_after_s = max(retry_after_s, min(2 * told.wait_s, _LONGEST_S))
        if len(self._told) >= self._most:
            del self._told[next(iter(self._told))]
        until_s = max(told.until_s, now + held_s + retry_after_s)
        self._told[client] = _Told(told.at_s, max(told.wait_s, retry_after_s), until_s)
        return PacedRefusal(held_s, retry_after_s)
