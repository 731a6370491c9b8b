"""One leader among several processes, by a session advisory lock.

The lock lives and dies with a connection: when the leader's process ends, Postgres sees the connection close and hands
the lock to the next who waits, at once. A leader whose host vanished says no goodbye, so the server probes the
connection, and the leader probes the server: whoever is cut off loses the lead within about 4 s on both sides.
It needs a connection of its own to the server, not one through a transaction pooler.
"""

import asyncio
import logging
import zlib
from contextlib import AsyncExitStack
from typing import Any, Final

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from store.errors import StoreUnavailable, translated
from store.pool import connect

_PROBE_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 2.0
_SERVER: Final = {
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "4000",
    # A server-wide limit must not end the wait for the lead.
    "statement_timeout": "0",
    "lock_timeout": "0",
}

log = logging.getLogger(__name__)


class Leadership:
    """Async context manager: entering waits, without end, to become the leader; leaving hands on the lead.

    `lost` is set when the lead is gone; the holder must then stop what only a leader may do, and may enter anew.
    """

    def __init__(self, dsn: str, key: str) -> None:
        self._dsn = dsn
        self._key = zlib.crc32(key.encode())
        self._stack = AsyncExitStack()
        self._connection: Any = None
        self._prober: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    async def __aenter__(self) -> "Leadership":
        self.lost = asyncio.Event()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential_jitter(initial=0.05, max=2.0, jitter=0.2),
            before_sleep=before_sleep_log(log, logging.DEBUG),
        ):
            with attempt:
                await self._acquire()
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._prober = tasks.create_task(self._probe(), name="leadership")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.lost.set()
        if self._prober is not None:
            self._prober.cancel()
        self._connection.terminate()
        await self._stack.aclose()

    async def _acquire(self) -> None:
        connection = await connect(self._dsn, "infaas-leader", **_SERVER)
        lost = self.lost

        def on_termination(_connection: Any) -> None:
            lost.set()

        connection.add_termination_listener(on_termination)
        try:
            with translated():
                await connection.execute(f"SELECT pg_advisory_lock({_CLASS}, {_signed(self._key)})")
        except BaseException:
            connection.terminate()
            # The attempt's own end is no loss of a lead it never had.
            self.lost = asyncio.Event()
            raise
        self._connection = connection

    async def _probe(self) -> None:
        while not self.lost.is_set():
            try:
                async with asyncio.timeout(_PROBE_S):
                    await self.lost.wait()
            except TimeoutError:
                await self._ask()

    async def _ask(self) -> None:
        try:
            with translated():
                await self._connection.execute("SELECT 1", timeout=_PROBE_TIMEOUT_S)
        except StoreUnavailable as error:
            log.warning("lost the lead: %s", error)
            self.lost.set()


_CLASS: Final = 0x696E66  # "inf": keeps our keys apart from other programs' in the same database


def _signed(key: int) -> int:
    return key - 2**32 if key >= 2**31 else key
