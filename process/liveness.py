"""Whether a process of ours hangs, judged from outside: its liveness URL answers no more.

Asked of processes that cannot tell themselves: one that is stopped, or whose event loop stands still. Time is counted
in questions that went unanswered, not by the clock: whoever asks may have been stopped, too.
"""

import asyncio
from typing import Final

import aiohttp

_QUESTIONS: Final = 3
"""Questions in a row without an answer after which a process counts as hung."""
_START_S: Final = 60.0
"""Seconds within which a process that has started must answer for the first time."""
_STARTING_INTERVAL_S: Final = 0.25


async def wait_until_hung(url: str, limit_s: float) -> None:
    """Return when `url` has not answered 200 for `limit_s`, or not at all since the process started. 0: never."""
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
    """Whether a GET of `url` answers 200 now."""
    try:
        async with http.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
