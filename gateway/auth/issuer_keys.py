"""Cache of the token issuer's public keys: read at the start, every ten minutes, and when a key is missing.

A reading has a timeout and a maximum size, and readings are rate-limited however many tokens arrive. If the issuer is
unavailable, the last keys stay valid.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import aiohttp

from gateway.auth.issuer_documents import discover, fetch
from gateway.auth.tokens import TokenKey, read_keys
from process.pauses import wait_within

_TIMEOUT_S: Final = 5.0
_RENEW_S: Final = 600.0
_AGAIN_S: Final = 10.0
"""Seconds until the next attempt after a failure."""
_JWKS: Final = "jwks_uri"

log = logging.getLogger(__name__)


class IssuerKeys:
    """Public keys of one issuer, kept current; an async context manager whose entry waits for the first reading.

    Args:
        issuer: URL of the issuer.
        jwks_url: URL of its keys; empty: the one in its discovery document.
        pause_s: minimum seconds between two readings.
    """

    def __init__(self, issuer: str, jwks_url: str, pause_s: float) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._pause_s = pause_s
        self.current: dict[str, TokenKey] | None = None
        """Keys by id; None until the first successful reading."""
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()
        """Set at the end of the current reading, or of the next one."""
        self._pausing = False
        self._http: aiohttp.ClientSession
        self._stack = AsyncExitStack()
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "IssuerKeys":
        async with AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            reading = self._read
            self._follower = tasks.create_task(self._follow(), name="issuer keys")
            await reading.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
        await self._stack.__aexit__(kind, error, trace)

    async def refresh(self) -> None:
        """Wait until the keys were read again; return at once if a reading ended less than `pause_s` ago."""
        self._wanted.set()
        if not self._pausing:
            await self._read.wait()

    async def _follow(self) -> None:
        while True:
            self._wanted.clear()
            done = await self._renew()
            reading, self._read = self._read, asyncio.Event()
            self._pausing = True
            reading.set()
            await asyncio.sleep(self._pause_s)
            self._pausing = False
            await wait_within(_RENEW_S if done else _AGAIN_S, self._wanted)

    async def _renew(self) -> bool:
        try:
            url = self._jwks_url or (await discover(self._http, self._issuer, _JWKS))[_JWKS]
            found = read_keys(await fetch(self._http, url))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            kept = "none are known yet" if self.current is None else f"the {len(self.current)} known keys stay valid"
            reason = str(error) or type(error).__name__
            log.warning("the keys of %s cannot be read, %s: %s", self._issuer, kept, reason)
            return False
        if found != self.current:  # the cache of verified tokens depends on the identity of this mapping
            self.current = found
        return True
