"""Listens for changes of rows, by LISTEN/NOTIFY.

The tables notify a channel once a statement; which rows changed is not said, since listeners read everything anew. What
is announced while the connection is down is lost, so after each connect every channel counts as changed once.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Final

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from store.errors import StoreUnavailable, translate_errors
from store.pool import connect

REGISTRY: Final = "infaas_registry"
"""Channel that says that tasks, architectures, variants or profiles changed."""
PLACEMENT: Final = "infaas_placement"
"""Channel that says that instances that are wanted changed, or workers came or left."""
LEASES: Final = "infaas_leases"
"""Channel that says that a lease was released, or is requested."""
SCALE: Final = "infaas_scale"
"""Channel that says that pins, the pause or the wanted numbers of workers changed."""

_PROBE_S: Final = 5.0
"""Seconds of silence after which a connection is asked whether it still lives: a lost host sends no goodbye."""

log = logging.getLogger(__name__)


class ChangeListener:
    """Listener to channels; an async context manager, and an async iterator of the names of those that changed.

    The first connect happens in the first `__anext__`, which then yields every channel once: an initial read and one
    after an outage are the same case. While Postgres is away the iterator waits and reconnects with backoff. Several
    changes of a channel that nobody has asked for yet are one.
    """

    def __init__(self, dsn: str, channels: Collection[str]) -> None:
        self._dsn = dsn
        self._channels = tuple(channels)
        self._pending: set[str] = set()
        self._wake = asyncio.Event()
        self._connection: Any = None

    async def __aenter__(self) -> "ChangeListener":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

    def __aiter__(self) -> "ChangeListener":
        return self

    async def __anext__(self) -> str:
        while not self._pending:
            self._wake.clear()
            if self._connection is None or self._connection.is_closed():
                await self._connect()
            else:
                await self._wait()
        return self._pending.pop()

    def mark_changed(self, channel: str) -> None:
        """Have `channel` yielded again: its last change could not be acted on."""
        self._pending.add(channel)
        self._wake.set()

    async def _connect(self) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            before_sleep=before_sleep_log(log, logging.DEBUG),
        ):
            with attempt:
                await self._listen()
        self._pending.update(self._channels)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, "infaas-changes")
        connection.add_termination_listener(self._on_termination)
        try:
            with translate_errors():
                for channel in self._channels:
                    await connection.add_listener(channel, self._on_notification)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._wake.wait()
        except TimeoutError:
            await self._probe()

    async def _probe(self) -> None:
        try:
            with translate_errors():
                await self._connection.execute("SELECT 1", timeout=_PROBE_S)
        except StoreUnavailable as error:
            log.info("lost the connection that tells of changes: %s", error)
            self._connection.terminate()
            self._connection = None

    def _on_notification(self, _connection: Any, _pid: int, channel: str, _payload: object) -> None:
        self._pending.add(channel)
        self._wake.set()

    def _on_termination(self, _connection: Any) -> None:
        self._wake.set()
