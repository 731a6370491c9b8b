"""Pauses of loops: retries, waits for an event, and polls that grow rarer while idle."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from process.backoff import Backoff
from schemas.errors import QueryError

_LONGEST: Final = 8
"""Longest pause of idle polls, as a multiple of the shortest: a poll costs CPU time of Postgres and of this process."""
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


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
