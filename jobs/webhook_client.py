"""Webhook client that calls only permitted addresses, follows no redirects and uses no proxy.

The client checks the address when it resolves the name, and connects to that address. A name that resolves to another
address later has no effect. Only status and Retry-After of the response are used.
"""

import errno
import socket
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from jobs.addresses import Network, may_call
from jobs.retries import WebhookAnswer

_A_HOST: Final = 4
"""Maximum concurrent calls to one host."""


class _CheckedResolver(AbstractResolver):
    """Resolver that returns permitted addresses only."""

    def __init__(self, networks: Collection[Network]) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [one for one in found if may_call(one["host"], self._networks)]
        if not allowed:
            raise OSError(errno.EACCES, f"{host} has no address that webhooks may go to")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


class WebhookClient:
    """Client that calls webhooks; an async context manager."""

    def __init__(self, networks: Collection[Network], timeout_s: float, concurrency: int) -> None:
        self._networks = networks
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._concurrency = concurrency
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._networks), limit=self._concurrency, limit_per_host=_A_HOST
        )
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def call(self, url: URL, headers: dict[str, str], body: bytes) -> WebhookAnswer:
        """Post to a webhook; failures are returned, not raised."""
        host = url.host or ""
        if _is_address(host) and not may_call(host, self._networks):  # the resolver is not used for addresses
            return WebhookAnswer(None, f"webhooks may not go to {host}")
        try:
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return WebhookAnswer(response.status, "", _seconds(response.headers.get("Retry-After", "")))
        except TimeoutError:
            return WebhookAnswer(None, f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return WebhookAnswer(None, f"cannot be called: {error}"[:300])


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
        return True
    return False


def _seconds(text: str) -> float:
    """Return the seconds in a Retry-After header; 0 if it is absent or a date."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
