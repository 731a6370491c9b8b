"""Leader election among several processes, and names that one process holds, by session advisory locks.

The lock belongs to a connection. When the leader's process ends, Postgres sees the connection close and grants the lock
to the next waiter at once. If the leader's host is lost, the connection stays open, so the server probes the connection
and the leader probes the server: a disconnected leader loses the lock within about 4 s on both sides. The lock needs a
direct connection to the server, not one through a transaction pooler.
"""

import asyncio
import logging
import math
import socket
import zlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import asyncpg

from process.backoff import Backoff
from process.pauses import retry_until_reachable, wait_within
from schemas.errors import InfaasError, OperatorError
from store.errors import StoreUnavailable, translate_errors
from store.pool import TIMEOUT_S, DatabaseSession, connect, load_queries

_PROBE_S: Final = 1.0
_TIMEOUT_S: Final = 2.0
_PATIENCE_S: Final = 6.0
"""Timeout in seconds for the lock; longer than Postgres holds the lock of a lost machine."""
_BACKOFF: Final = Backoff(first_s=0.1, longest_s=1.0, jitter=0.5)
_SERVER: Final = {
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "4000",
    # The server wakes a waiter at once when the lock is free. The lock timeout only lets a waiter detect that its
    # server is lost.
    "lock_timeout": "1000",
}
_HOLDER: Final = load_queries("leader")["lock_holder"]
_CLASS: Final = 0x696E66  # "inf": separates our lock keys from those of other programs in the same database

log = logging.getLogger(__name__)


class LeadTaken(InfaasError):
    """Another process held the lock longer than the timeout."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"it is held: {holder}")
        self.holder = holder
        """Name and address of the holder's connection."""


class Leadership:
    """Leadership among several processes: entering waits for the lock, by default forever; leaving releases it.

    `lost` is set when the lock is lost. The holder must then stop all work that only a leader may do; it may enter
    again. Writes through `transaction` are always safe: they use the connection that holds the lock, so they are
    committed only under the lock.
    """

    def __init__(self, dsn: str, key: str, *, patience_s: float = math.inf, by: str = "infaas-leader") -> None:
        """Prepare the election: `patience_s` is the timeout until `LeadTaken`, `by` names the holder's connection."""
        self._dsn = dsn
        self._by = by
        self._patience_s = patience_s
        self._number = zlib.crc32(key.encode()) - 2**31
        self._query = f"SELECT pg_advisory_lock({_CLASS}, {self._number})"
        self._connection: Any = None
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._prober: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    async def __aenter__(self) -> "Leadership":
        await retry_until_reachable(
            self._acquire, StoreUnavailable, _BACKOFF, failed=lambda error: log.debug("no lock yet: %s", error)
        )
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._prober = tasks.create_task(self._probe(), name="leadership")
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.lost.set()
        self._connection.terminate()
        await self._stack.__aexit__(*exc_info)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseSession]:
        """Open a transaction on the connection that holds the lock.

        Raises:
            StoreUnavailable: Postgres is unavailable, so the lock is lost.
        """
        with translate_errors():
            async with self._turn, self._connection.transaction():
                yield DatabaseSession(TIMEOUT_S, self._connection)

    async def _acquire(self) -> None:
        self.lost = lost = asyncio.Event()

        def on_termination(_connection: Any) -> None:
            lost.set()

        connection = await connect(self._dsn, self._by, **_SERVER)
        connection.add_termination_listener(on_termination)
        try:
            with translate_errors():
                await self._wait_for_lock(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _wait_for_lock(self, connection: Any) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience_s
        while True:
            try:
                await connection.execute(self._query, timeout=1.0 + _TIMEOUT_S)
            except asyncpg.LockNotAvailableError:
                if clock() > until:
                    raise LeadTaken(await self._holder(connection)) from None
                continue
            return

    async def _holder(self, connection: Any) -> str:
        found = await connection.fetchrow(_HOLDER, _CLASS, self._number % 2**32, timeout=_TIMEOUT_S)
        return f"{found['application_name']}, {found['address']}" if found else "unknown"

    async def _probe(self) -> None:
        while not await wait_within(_PROBE_S, self.lost):
            try:
                with translate_errors():
                    async with self._turn:
                        await self._connection.execute("SELECT 1", timeout=_TIMEOUT_S)
            except StoreUnavailable as error:
                log.warning("lost the lead: %s", error)
                self.lost.set()


@asynccontextmanager
async def held_name(dsn: str, kind: str, name: str, setting: str) -> AsyncGenerator[None]:
    """Hold the name of a process while the context is open; entering waits until the name is held.

    A process that loses its connection to Postgres continues, and takes the lock again after it has reconnected. If
    another process has the name by then, it ends.

    Args:
        dsn: The Postgres of the system.
        kind: Kind of process that has such a name.
        name: The name.
        setting: The variable that gives a process another name.

    Raises:
        OperatorError: another process holds the name; raised in an exception group, because a task detects it.
    """
    held = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(_hold(dsn, kind, name, setting, held), name=f"name of {kind}")
        await held.wait()
        yield
        holding.cancel()


async def _hold(dsn: str, kind: str, name: str, setting: str, held: asyncio.Event) -> None:
    while True:
        try:
            by = f"infaas {kind} on {socket.gethostname()}"
            async with Leadership(dsn, f"{kind} {name}", patience_s=_PATIENCE_S, by=by) as lead:
                held.set()
                await lead.lost.wait()
        except LeadTaken as error:
            raise OperatorError(
                f"another {kind} named {name} runs ({error.holder}): give each its own {setting}"
            ) from None
