"""Updates of an open page by server-sent events.

The page's data is read again in intervals, its live blocks are rendered, and the changed ones are sent. The pause after
a reading is 150 times its duration, at least a second: an open page takes less than a hundredth of a core, however
large the system. The reading's duration includes the time that Postgres takes.

An act at this gateway ends the pause, but not its first part of at least a second, and five times the duration of the
reading: acts without a pause would otherwise make all open pages read without one. An act during a reading or during
this part is not lost; the next reading follows at the part's end.

An event holds the changed blocks that have at most 16 KiB of JSON together; the others follow in the next one. A block
is not divided, so a larger one is sent alone: templates bound lists, texts and plots, so that none has 20 kB.

The caller is identified again before each reading, so the end of a session ends its streams.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from gateway.console.rendering import HEADERS
from process.pauses import wait_within
from schemas.errors import InfaasError, Unauthenticated
from store.errors import StoreUnavailable

log = logging.getLogger(__name__)
EVENT_BYTES: Final = 16 * 1024
"""Maximum size of several blocks in one event."""
_LEAST_PAUSE_S: Final = 1.0
_MOST_PAUSE_S: Final = 15.0
_PAUSES: Final = 150.0
"""Pause after a reading, as a multiple of its duration."""
_LEAST_PAUSES: Final = 5.0
"""Part of the pause that no act ends, as a multiple of the reading's duration."""
_RETRY_MS: Final = 2000
"""Time in milliseconds after which a browser reconnects."""
_FAILED: Final = "this page cannot be read again at the moment; the log of the gateway says why"
Load = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the live blocks of a page by name."""


class Changes:
    """Event that ends the pauses of all streams: an act was done, or the gateway stops."""

    def __init__(self) -> None:
        self.ended = False
        """True if the gateway stops."""
        self.number = 0
        """Number of acts so far."""
        self._event = asyncio.Event()
        self._ending = asyncio.Event()

    def notify(self) -> None:
        """End the present pauses, after their least part."""
        self.number += 1
        event, self._event = self._event, asyncio.Event()
        event.set()

    def end(self) -> None:
        """End all streams."""
        self.ended = True
        self._ending.set()
        self.notify()

    async def wait(self, known: int, least_s: float, most_s: float) -> None:
        """Wait for an act after the `known` first ones, for `least_s` to `most_s` seconds."""
        if await wait_within(least_s, self._ending) or self.number != known:
            return
        await wait_within(most_s - least_s, self._event)


class Blocks:
    """Blocks of one open page as its browser shows them."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        """Contents, the block that was sent longest ago first."""

    def changed(self, blocks: Mapping[str, str]) -> dict[str, str]:
        """Return changed blocks that fit into an event, at least one; the others are the first of the next event."""
        found, size, order = dict[str, str](), 0, list(self._shown)
        for name in sorted(blocks, key=lambda name: order.index(name) if name in self._shown else -1):
            html = blocks[name]
            if self._shown.get(name) == html:
                continue
            size += len(msgspec.json.encode(html))
            if found and size > EVENT_BYTES:
                break
            self._shown.pop(name, None)
            found[name] = self._shown[name] = html
        return found


def pause_s(took_s: float) -> float:
    """Return the pause after a reading that took `took_s` seconds."""
    return _bounded_s(took_s * _PAUSES)


def least_pause_s(took_s: float) -> float:
    """Return the part of the pause after a reading that no act ends."""
    return _bounded_s(took_s * _LEAST_PAUSES)


def _bounded_s(seconds: float) -> float:
    return min(max(seconds, _LEAST_PAUSE_S), _MOST_PAUSE_S)


async def send_updates(request: web.Request, load: Load, changes: Changes) -> web.StreamResponse:
    """Send the changes of a page's blocks until the browser leaves, the session ends, or the gateway stops."""
    headers = HEADERS | {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with suppress(ConnectionResetError):  # the browser left; there is no second response
        await response.write(f"retry: {_RETRY_MS}\n\n".encode())
        readings, clock = Readings(load), asyncio.get_running_loop().time
        while not changes.ended:
            began, known = clock(), changes.number
            event, goes_on = await readings.next_event()
            await response.write(event)
            if not goes_on:
                break
            took_s = clock() - began
            await changes.wait(known, least_pause_s(took_s), pause_s(took_s))
    return response


class Readings:
    """Readings of one open page, each of which becomes an event.

    Args:
        load: reads the live blocks.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._blocks = Blocks()
        self._logged = False

    async def next_event(self) -> tuple[bytes, bool]:
        """Return the bytes to send, and false if they are the last."""
        try:
            found = self._blocks.changed(await self._load())
        except Unauthenticated:
            return _event("end", {}), False
        except (InfaasError, StoreUnavailable) as error:
            return _event("trouble", {"text": str(error)}), True
        except Exception:  # the response has begun, so the page must tell it
            if not self._logged:
                log.exception("an open page cannot be read again")
            self._logged = True
            return _event("trouble", {"text": _FAILED}), True
        return _event("update", found) if found else b":\n\n", True


def _event(kind: str, content: Mapping[str, str]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(content))
