"""Pauses of loops: back-off after failures, retries, waits for an event, and polls that grow rarer while idle.

The pause after each failed attempt is twice as long as the one before, up to a limit. Callers count the failures in a
row, and pass the time to `KeyedBackoff`. Only the jitter is random.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from schemas.errors import QueryError

_MOST_DOUBLED: Final = 100
"""Number of doublings after which the pause no longer grows, since a float would overflow."""
_LONGEST: Final = 8
"""Longest pause of idle polls, as a multiple of the shortest: a poll costs CPU time of Postgres and of this process."""
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


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


async def retry_until_reachable(
    call: Callable[[], Awaitable[T]],
    errors: type[E] | tuple[type[E], ...],
    backoff: Backoff,
    *,
    may_pass: Callable[[E], bool] = lambda _: True,
    failed: Callable[[E], None] = lambda _: None,
    attempts: float = math.inf,
    patience_s: float = math.inf,
) -> T:
    """Call until no error is raised, and return the result.

    The pause after an error is the back-off's, and no shorter than the `retry_after_s` of a `QueryError`.

    Args:
        call: makes one attempt.
        errors: types of the errors after which the call is repeated; all others are raised at once.
        backoff: pauses between the attempts.
        may_pass: returns false for an error that a repetition cannot cure; it is raised at once.
        failed: called with each error before the pause, for example to log it.
        attempts: number of attempts; the error of the last one is raised.
        patience_s: seconds after which no attempt is made; the error of the last one is raised.
    """
    clock, failures = asyncio.get_running_loop().time, 0
    until_s = clock() + patience_s
    while True:
        try:
            return await call()
        except errors as error:
            failures += 1
            least_s = error.retry_after_s if isinstance(error, QueryError) else None
            pause_s = backoff.pause_s(failures, least_s or 0.0)
            if not may_pass(error) or failures >= attempts or clock() + pause_s > until_s:
                raise
            failed(error)
        await asyncio.sleep(pause_s)


async def wait_within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait until `event` is set, for at most `seconds` (None: no limit); return true if it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


class IdlePause:
    """Pause between two polls; a poll that finds something resets it to the shortest."""

    def __init__(self, shortest_s: float) -> None:
        self._backoff = Backoff(shortest_s, _LONGEST * shortest_s)
        self._pauses = 0

    def after(self, found: bool) -> float:
        """Return the seconds to wait after a poll; `found` is true if the poll found something."""
        self._pauses = 1 if found else self._pauses + 1
        return self._backoff.pause_s(self._pauses)


class WakeUp:
    """Pause that `call` ends early; a call before the pause counts, too."""

    def __init__(self, shortest_s: float) -> None:
        self._pause = IdlePause(shortest_s)
        self._event = asyncio.Event()
        self._was_called = True

    def call(self) -> None:
        """End the present pause, or the next one."""
        self._event.set()

    async def wait(self, *, found: bool) -> None:
        """Wait until called; the pause is short if the last poll found something or was triggered by a call."""
        await wait_within(self._pause.after(found or self._was_called), self._event)
        self._was_called = self._event.is_set()
        self._event.clear()
