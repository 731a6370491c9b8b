"""A wait for an event that ends after a while, too: for loops that look again when nobody tells them to."""

import asyncio


async def wait_within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait until `event` is set, for `seconds` at most; None: for as long as it takes. Returns whether it is."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
