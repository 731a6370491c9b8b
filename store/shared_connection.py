"""Shared connection of a process to Postgres, for statements and notifications; closed if connections are scarce.

    enough connections     it is kept and listens: changes arrive at once; statements take turns on it
    scarce connections     it is passing: it is closed after each use, and changes are polled about every second

The decision depends on the share of the server's connections that are kept. With ten workers all keep theirs. With two
hundred workers on a server with a hundred connections, about 75 connections are kept, and the other workers connect for
each use. Random decisions prevent all processes from changing at the same time. A process that finds no free connection
waits for a random back-off and retries.

Polling reads the rows of `changes` by transaction: all transactions that were not finished at the previous poll. Ids of
rows cannot be used, because they are assigned before the commit and in a different order.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from process.backoff import Backoff
from store.errors import StoreFull, StoreUnavailable, translate_errors
from store.pool import TIMEOUT_S, Pool, connect
from store.sql import load_queries

_queries = load_queries("changes")
_CHANGES_SINCE: Final = _queries["changes_since"]
_SHARE_KEPT: Final = _queries["share_kept"]
_MANY: Final = 0.8
"""Share of kept connections above which some processes give theirs up."""
_FEW: Final = 0.7
"""Share of kept connections below which some passing connections are kept."""
_GIVE_UP: Final = 0.3
_KEEP: Final = 0.1
"""Probabilities of giving a connection up, and of keeping it, at each check."""
_LINGER_S: Final = 0.02
_PROBE_S: Final = 5.0
"""Seconds without traffic after which a kept connection is probed, because a lost host does not close it."""
_POLL_S: Final = 1.0
"""Poll interval in seconds of a passing connection that has no other use."""
_BACKOFF: Final = Backoff(first_s=0.1, longest_s=2.0, jitter=0.5)
_KEPT: Final = "infaas-kept"
_PASSING: Final = "infaas-passing"
_MOST_CHANGES: Final = 1000

log = logging.getLogger(__name__)


class Hearer(Protocol):
    """Receiver of change notifications."""

    channels: tuple[str, ...]

    def hear(self, channel: str, payload: str | None) -> None:
        """Record a change; without a payload any row may have changed."""
        ...


class _Look(msgspec.Struct):
    seen: str
    changes: list[tuple[int, str, str]]


class SharedConnection(Pool):
    """Connection shared by the components of a process; an async context manager. It connects at its first use."""

    def __init__(self, dsn: str, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(timeout_s)
        self._dsn = dsn
        self._connection: Any = None
        self._turn = asyncio.Lock()
        self._short = False
        self._hearers: list[Hearer] = []
        self._new: list[Hearer] = []
        self._listening: set[str] = set()
        self._seen: str | None = None
        """Oldest transaction that was running at the previous poll; None: changes may have been missed."""
        self._known: set[int] = set()
        """Ids of the changes that the previous poll returned."""
        self._wake = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._follower: asyncio.Task[None] | None = None

    @property
    def is_kept(self) -> bool:
        """True if the connection stays open and listens for changes, because connections are not scarce."""
        return bool(self._listening) and self._connection is not None

    def pass_on(self) -> None:
        """Treat connections as scarce, so that this one is not kept; it may be kept again later."""
        self._short = True
        self._wake.set()

    async def __aenter__(self) -> "SharedConnection":
        await self._measure()
        await self._tasks.__aenter__()
        self._follower = self._tasks.create_task(self._follow(), name="changes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if list(group.exceptions) != [error]:  # the original error is raised as it is, not in a group
                raise
        finally:
            self._drop()

    def attach(self, hearer: Hearer) -> None:
        """Notify `hearer` of changes from now on, and first of a possible change on each of its channels."""
        self._hearers.append(hearer)
        self._new.append(hearer)
        self._wake.set()

    def detach(self, hearer: Hearer) -> None:
        """Stop notifying `hearer`."""
        self._hearers.remove(hearer)
        if hearer in self._new:
            self._new.remove(hearer)

    async def _measure(self) -> None:
        """Check if connections are scarce before the first use, and wait until one is free."""
        with suppress(StoreUnavailable):
            while True:
                with suppress(StoreFull), translate_errors():
                    async with self._open() as connection:
                        self._short = await connection.fetchval(_SHARE_KEPT) > _MANY
                    return

    # -- statements ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """Provide the connection to one user at a time."""
        async with self._open() as connection:
            yield connection
        if self._short:  # the connection is still open for a moment, so a poll is cheap now
            self._wake.set()

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[Any]:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._drop()
                self._connection = await connect(self._dsn, _PASSING if self._short else _KEPT)
                self._connection.add_termination_listener(self._on_termination)
            yield self._connection
        if self._short:
            asyncio.get_running_loop().call_later(_LINGER_S, self._give_back)

    def _give_back(self) -> None:
        if self._short and not self._turn.locked():
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._listening.clear()
        if connection is not None:
            connection.terminate()

    def _on_termination(self, connection: Any) -> None:
        if connection is self._connection:  # otherwise it was closed on purpose
            self._seen = None
            self._wake.set()

    # -- changes -------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                if self._hearers:
                    await self._look()
            except StoreUnavailable as error:
                log.debug("cannot listen for changes: %s", error)
                self._seen = None
                failures += 1
                await asyncio.sleep(_BACKOFF.pause_s(failures))
                continue
            failures = 0
            await self._wait()

    async def _wait(self) -> None:
        wait_s = (_POLL_S if self._short else _PROBE_S) * random.uniform(0.8, 1.2)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        """Poll for changes, and at random check if the connection should be kept."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self._open() as connection:
                heard = bool(self._listening)
                look = await self._ask(connection)
                if random.random() < (_KEEP if self._short else _GIVE_UP):
                    await self._reconsider(connection)
                if not self._short:
                    fresh = {name for hearer in self._hearers for name in hearer.channels} - self._listening
                    for channel in sorted(fresh):
                        await connection.add_listener(channel, self._on_notification)
                    self._listening |= fresh
                    if fresh and self._seen is not None:
                        look = await self._ask(connection)
        self._take(look, heard=heard)

    async def _reconsider(self, connection: Any) -> None:
        """Keep the connection, or give it up, depending on the share of kept connections."""
        kept = await connection.fetchval(_SHARE_KEPT)
        if self._short and kept < _FEW:
            self._short = False
            await connection.execute(f"SET application_name = '{_KEPT}'")
        elif kept > _MANY:
            self._short = True

    async def _ask(self, connection: Any) -> _Look:
        row = await connection.fetchrow(_CHANGES_SINCE, self._seen, _MOST_CHANGES + 1)
        return msgspec.convert(dict(row), _Look)

    def _take(self, look: _Look, *, heard: bool) -> None:
        missed = self._seen is None or len(look.changes) > _MOST_CHANGES
        for hearer in self._hearers if missed else self._new:
            for channel in hearer.channels:
                hearer.hear(channel, None)
        self._new.clear()
        if not missed and not heard:  # a listening connection has delivered these changes already
            for number, channel, payload in look.changes:
                if number not in self._known:
                    self._tell(channel, payload)
        self._seen, self._known = look.seen, {number for number, _, _ in look.changes}

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._tell(channel, str(payload))

    def _tell(self, channel: str, payload: str) -> None:
        for hearer in self._hearers:
            if channel in hearer.channels:
                hearer.hear(channel, payload)
