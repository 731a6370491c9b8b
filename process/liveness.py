"""Detects a hung process from outside: its liveness URL stops answering.

It detects processes that cannot report the hang themselves, since they are stopped or their event loop is blocked. The
limit is counted in unanswered requests rather than by the clock, since this process may have been stopped, too.
"""

import asyncio
from typing import Final

import aiohttp

_QUESTIONS: Final = 3
"""Consecutive unanswered requests after which a process counts as hung."""
_START_S: Final = 60.0
"""Seconds within which a new process must answer for the first time."""
_STARTING_INTERVAL_S: Final = 0.25


async def wait_until_hung(url: str, limit_s: float) -> None:
    """Return when `url` has not answered 200 for `limit_s` (0: never return), or not at all in the first 60 s."""
    if not limit_s:
        await asyncio.Event().wait()
    period_s = limit_s / _QUESTIONS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=period_s)) as http:
        try:
            async with asyncio.timeout(_START_S):
                while not await responds(http, url):  # noqa: ASYNC110 - HTTP has no event to wait for
                    await asyncio.sleep(_STARTING_INTERVAL_S)
        except TimeoutError:
            return
        unanswered = 0
        while unanswered < _QUESTIONS:
            answered, _ = await asyncio.gather(responds(http, url), asyncio.sleep(period_s))
            unanswered = 0 if answered else unanswered + 1


async def responds(http: aiohttp.ClientSession, url: str) -> bool:
    """Return true if a GET of `url` answers 200."""
    try:
        async with http.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
