"""Wait for an event with a timeout, for loops that also poll."""

import asyncio


async def wait_within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait until `event` is set, for at most `seconds` (None: no limit); return true if it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
