"""Repetition of a call until the service behind it can be reached."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from process.backoff import Backoff
from schemas.errors import QueryError

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
