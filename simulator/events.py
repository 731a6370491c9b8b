"""Queue of events in virtual time."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any, TypeAlias

_Event: TypeAlias = tuple[float, int, Callable[[Any], None], Any]


class EventQueue:
    """Events by time; of events at the same time, the one that was scheduled first goes first.

    `now` is the time of the current event, in seconds.
    """

    __slots__ = ("_events", "_scheduled", "now")

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._events: list[_Event] = []
        self._scheduled = 0

    def __len__(self) -> int:
        return len(self._events)

    def at(self, time_s: float, act: Callable[[Any], None], argument: Any = None) -> None:
        """Schedule the call `act(argument)` at `time_s`, or now if that is past."""
        self._scheduled += 1
        heappush(self._events, (time_s if time_s > self.now else self.now, self._scheduled, act, argument))

    def after(self, delay_s: float, act: Callable[[Any], None], argument: Any = None) -> None:
        """Schedule a call after `delay_s`."""
        self.at(self.now + delay_s, act, argument)

    @property
    def next_s(self) -> float:
        """Time of the next event; infinite without any."""
        return self._events[0][0] if self._events else inf

    def step(self) -> None:
        """Advance to the next event and execute it; there must be one."""
        self.now, _, act, argument = heappop(self._events)
        act(argument)
