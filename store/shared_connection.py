"""One connection of a process to Postgres, for statements and for notices; given back where connections are short.

    there are plenty     it is kept, and listens: changes arrive at once; statements take turns on it
    they are short       it passes: it is closed after each use, and changes are read each second or so

What counts is which share of the server's connections is kept. With ten workers all keep theirs; of two hundred on a
server for a hundred about three quarters of these are kept, and the others come and go. Who gives up and who keeps is
left to chance, or all would do so at once. Who finds none that is free waits a moment, a random one, and tries again.

What is read instead of listened to are rows of `changes`, of all transactions that were not over at the last look:
numbers would not do, since they are given before the commit and out of its order.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from store.errors import StoreFull, StoreUnavailable, translate_errors
from store.pool import TIMEOUT_S, Pool, connect
from store.sql import load_queries

_queries = load_queries("changes")
_CHANGES_SINCE: Final = _queries["changes_since"]
_SHARE_KEPT: Final = _queries["share_kept"]
_MANY: Final = 0.8
"""Share of the server's connections that is kept, above which some are given up."""
_FEW: Final = 0.7
"""Share below which some that pass are kept."""
_GIVE_UP: Final = 0.3
_KEEP: Final = 0.1
"""Probability of either at each look."""
_LINGER_S: Final = 0.02
_PROBE_S: Final = 5.0
"""Seconds of silence after which a connection is asked whether it still lives: a lost host sends no goodbye."""
_POLL_S: Final = 1.0
"""Seconds between two looks at what changed, where nobody opens a connection for another reason."""
_AGAIN_S: Final = (0.1, 2.0)
_KEPT: Final = "infaas-kept"
_PASSING: Final = "infaas-passing"
_MOST_CHANGES: Final = 1000

log = logging.getLogger(__name__)


class Hearer(Protocol):
    """What is told of changes."""

    channels: tuple[str, ...]

    def hear(self, channel: str, payload: str | None) -> None:
        """Take note of a change; without a payload anything may have changed."""
        ...


class _Look(msgspec.Struct):
    seen: str
    changes: list[tuple[int, str, str]]


class SharedConnection(Pool):
    """Connection that those of a process share; an async context manager. It connects when first needed."""

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
        """The oldest transaction that was not over at the last look; None: changes may have been missed."""
        self._known: set[int] = set()
        """Numbers of the changes that the last look found."""
        self._wake = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._follower: asyncio.Task[None] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the connection is open and listens for changes, since there are plenty."""
        return bool(self._listening) and self._connection is not None

    def pass_on(self) -> None:
        """Keep the connection no longer, as when they are short; it may be kept again later."""
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
            if list(group.exceptions) != [error]:  # else it goes on as it came, not in a group
                raise
        finally:
            self._drop()

    def attach(self, hearer: Hearer) -> None:
        """Tell `hearer` of changes from now on; first, that all of its channels may have changed."""
        self._hearers.append(hearer)
        self._new.append(hearer)
        self._wake.set()

    def detach(self, hearer: Hearer) -> None:
        """Tell it no more."""
        self._hearers.remove(hearer)
        if hearer in self._new:
            self._new.remove(hearer)

    async def _measure(self) -> None:
        """Learn whether connections are short before the first use, and wait for one that is free."""
        with suppress(StoreUnavailable):
            while True:
                with suppress(StoreFull), translate_errors():
                    async with self._open() as connection:
                        self._short = await connection.fetchval(_SHARE_KEPT) > _MANY
                    return

    # -- statements ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """The connection, for one user at a time."""
        async with self._open() as connection:
            yield connection
        if self._short:  # it is open for a moment: that is the time to look what changed
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
        if connection is self._connection:  # else it was given back
            self._seen = None
            self._wake.set()

    # -- changes -------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        pause_s = _AGAIN_S[0]
        while True:
            self._wake.clear()
            try:
                if self._hearers:
                    await self._look()
            except StoreUnavailable as error:
                log.debug("no notice of changes now: %s", error)
                self._seen = None
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, _AGAIN_S[1])
                continue
            pause_s = _AGAIN_S[0]
            await self._wait()

    async def _wait(self) -> None:
        wait_s = (_POLL_S if self._short else _PROBE_S) * random.uniform(0.8, 1.2)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        """See what changed, and whether the connection should be kept."""
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
        """Keep the connection, or give it up, by how many are kept."""
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
        if not missed and not heard:  # who listens has been told already
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
