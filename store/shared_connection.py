"""Shared connection of a process to Postgres, for statements and notifications; closed if connections are scarce.

    enough connections     it is kept and listens: changes arrive at once; statements take turns on it
    scarce connections     it is passing: it is closed after each use, and changes are polled about every second

The decision depends on the share of the server's connections that are kept. With ten workers all keep theirs. With two
hundred workers on a server with a hundred connections, about 75 connections are kept, and the other workers connect for
each use. Random decisions prevent all processes from changing at the same time. A process that finds no free connection
waits for a random back-off and retries.

The tables announce a change on a channel, by NOTIFY and in the table `changes`. The payload is a hint that makes a full
read unnecessary: `<table> <name>` on the registry's channel, and only the table on most others. Polling reads the rows
of `changes` by transaction: all transactions that were not finished at the previous poll. Ids of rows cannot be used,
because they are assigned before the commit and in a different order.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final

import asyncpg
import msgspec

from process.backoff import Backoff
from process.pauses import wait_within
from store.errors import StoreFull, StoreUnavailable, translate_errors
from store.pool import TIMEOUT_S, Pool, connect, load_queries

REGISTRY: Final = "infaas_registry"
"""Channel for changed tasks, architectures, variants and profiles."""
PLACEMENT: Final = "infaas_placement"
"""Channel for changes of the wanted instances, and for workers that join or leave."""
LEASES: Final = "infaas_leases"
"""Channel for leases that are released or requested."""
SCALE: Final = "infaas_scale"
"""Channel for changes of pins, of the pause and of the wanted numbers of workers."""
JOBS: Final = "infaas_jobs"
"""Channel for new jobs."""
REMOVALS: Final = "infaas_removals"
"""Channel for removals that are requested, begun or ended."""
REGISTRATIONS: Final = "infaas_registrations"
"""Channel for registrations that are requested, begun or ended."""
API_KEYS: Final = "infaas_api_keys"
"""Channel for API keys that are created or revoked."""

_MOST_PENDING: Final = 1000
"""Maximum number of pending payloads of a channel; beyond it, all rows count as changed."""
_SQL: Final = load_queries("changes")
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
        self._listeners: list[ChangeListener] = []
        self._new: list[ChangeListener] = []
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

    def attach(self, listener: "ChangeListener") -> None:
        """Notify `listener` of changes from now on, and first of a possible change on each of its channels."""
        self._listeners.append(listener)
        self._new.append(listener)
        self._wake.set()

    def detach(self, listener: "ChangeListener") -> None:
        """Stop notifying `listener`."""
        self._listeners.remove(listener)
        if listener in self._new:
            self._new.remove(listener)

    async def _measure(self) -> None:
        """Check if connections are scarce before the first use, and wait until one is free."""
        with suppress(StoreUnavailable):
            while True:
                with suppress(StoreFull), translate_errors():
                    async with self._open() as connection:
                        self._short = await connection.fetchval(_SQL["share_kept"]) > _MANY
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
            try:
                yield self._connection
            except asyncpg.InternalClientError:  # the driver cannot use it any more, but does not close it
                self._drop()
                raise
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
                if self._listeners:
                    await self._look()
            except StoreUnavailable as error:
                log.debug("cannot listen for changes: %s", error)
                self._seen = None
                failures += 1
                await asyncio.sleep(_BACKOFF.pause_s(failures))
                continue
            failures = 0
            await wait_within((_POLL_S if self._short else _PROBE_S) * random.uniform(0.8, 1.2), self._wake)

    async def _look(self) -> None:
        """Poll for changes, and at random check if the connection should be kept."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self._open() as connection:
                heard = bool(self._listening)
                look = await self._ask(connection)
                if random.random() < (_KEEP if self._short else _GIVE_UP):
                    await self._reconsider(connection)
                if not self._short:
                    fresh = {name for listener in self._listeners for name in listener.channels} - self._listening
                    for channel in sorted(fresh):
                        await connection.add_listener(channel, self._on_notification)
                    self._listening |= fresh
                    if fresh and self._seen is not None:
                        look = await self._ask(connection)
        self._take(look, heard=heard)

    async def _reconsider(self, connection: Any) -> None:
        """Keep the connection, or give it up, depending on the share of kept connections."""
        kept = await connection.fetchval(_SQL["share_kept"])
        if self._short and kept < _FEW:
            self._short = False
            await connection.execute(f"SET application_name = '{_KEPT}'")
        elif kept > _MANY:
            self._short = True

    async def _ask(self, connection: Any) -> _Look:
        row = await connection.fetchrow(_SQL["changes_since"], self._seen, _MOST_CHANGES + 1)
        return msgspec.convert(dict(row), _Look)

    def _take(self, look: _Look, *, heard: bool) -> None:
        missed = self._seen is None or len(look.changes) > _MOST_CHANGES
        for listener in self._listeners if missed else self._new:
            for channel in listener.channels:
                listener.hear(channel, None)
        self._new.clear()
        if not missed and not heard:  # a listening connection has delivered these changes already
            for number, channel, payload in look.changes:
                if number not in self._known:
                    self._notify(channel, payload)
        self._seen, self._known = look.seen, {number for number, _, _ in look.changes}

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._notify(channel, str(payload))

    def _notify(self, channel: str, payload: str) -> None:
        for listener in self._listeners:
            if channel in listener.channels:
                listener.hear(channel, payload)


class ChangeListener:
    """Listener to channels; an async context manager, and an async iterator of the names of changed channels.

    Every channel is yielded once at the start and once after an outage, so a consumer handles both like a change.
    During an outage of Postgres the iterator waits. Changes of a channel that arrive before it is yielded are merged;
    `taken` contains their payloads.

    Args:
        source: a DSN, for a connection of its own, or a connection shared with other components.
        channels: channels to listen to.
    """

    def __init__(self, source: str | SharedConnection, channels: Collection[str]) -> None:
        self.channels = tuple(channels)
        self.taken: frozenset[str] | None = None
        """Payloads of the channel that was yielded last; None: any row may have changed."""
        self._source = source
        self._pending: dict[str, set[str] | None] = {}
        self._wake = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "ChangeListener":
        source = self._source
        if isinstance(source, str):
            source = await self._stack.enter_async_context(SharedConnection(source))
        source.attach(self)
        self._stack.callback(source.detach, self)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._stack.__aexit__(*exc_info)

    def __aiter__(self) -> "ChangeListener":
        return self

    async def __anext__(self) -> str:
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
        channel, changed = self._pending.popitem()
        self.taken = None if changed is None else frozenset(changed)
        return channel

    def mark_changed(self, channel: str) -> None:
        """Yield `channel` again, because its last change could not be processed."""
        self.hear(channel, None)

    def hear(self, channel: str, payload: str | None) -> None:
        """Record a change; without a payload any row may have changed."""
        changed = self._pending.setdefault(channel, set())
        if changed is not None and payload is not None and len(changed) < _MOST_PENDING:
            changed.add(payload)
        else:
            self._pending[channel] = None
        self._wake.set()
