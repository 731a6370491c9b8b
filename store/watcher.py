"""Snapshot of tables in memory, updated on changes.

Everything is read at the start and after an outage. Otherwise notifications name the changed rows, and only those are
read. During an outage of Postgres readers keep the last snapshot.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Final, Generic, Self, TypeVar

from store.errors import StoreUnavailable
from store.pool import Pool
from store.shared_connection import ChangeListener, SharedConnection

T = TypeVar("T")
Load = Callable[[Pool], Awaitable[T]]
"""Reads the complete snapshot."""
Update = Callable[[Pool, T, Collection[str]], Awaitable[T]]
"""Reads the rows named by the notifications' payloads, and returns an updated snapshot."""
_AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)


class Watcher(Generic[T]):
    """Keeper of `current`, the latest snapshot; an async context manager whose entry waits for the first snapshot.

    Args:
        source: a DSN, for a connection of its own, or a connection shared with other components.
        channel: channel of the notifications.
        empty: value of `current` before the first snapshot.
        load: reads the complete snapshot.
        update: reads the changed rows.
        pause_s: minimum seconds between two reads.

    Raises:
        StoreUnavailable: on entry, if Postgres is unreachable. Later outages only delay the next snapshot.
    """

    def __init__(
        self, source: str | SharedConnection, channel: str, empty: T, load: Load[T], update: Update[T], *,
        pause_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._source = source
        self._channel = channel
        self._current = empty
        self._load = load
        self._update = update
        self._pause_s = pause_s
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()
        self._follower: asyncio.Task[None] | None = None

    @property
    def current(self) -> T:
        """The latest snapshot."""
        return self._current

    async def changed(self) -> T:
        """Wait for a snapshot that differs from that of the last call, or of entry, and return it.

        Only one caller may use it.
        """
        await self._changed.wait()
        self._changed.clear()
        return self._current

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            pool = self._source
            if isinstance(pool, str):
                pool = await stack.enter_async_context(SharedConnection(pool))
            self._current = await self._load(pool)
            changes = await stack.enter_async_context(ChangeListener(pool, [self._channel]))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._follower = tasks.create_task(self._follow(pool, changes), name=f"follow {self._channel}")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        if self._follower is not None:
            self._follower.cancel()
        await self._stack.__aexit__(*exc_info)

    async def _follow(self, pool: Pool, changes: ChangeListener) -> None:
        async for channel in changes:
            try:
                if changes.taken is None:
                    found = await self._load(pool)
                else:
                    found = await self._update(pool, self._current, changes.taken)
            except StoreUnavailable as error:
                # If only our own connection failed, no notification would follow, so the channel is marked as changed.
                log.warning("keeping the last snapshot of %s: %s", channel, error)
                changes.mark_changed(channel)
                await asyncio.sleep(_AGAIN_S)
                continue
            if found != self._current:
                self._current = found
                self._changed.set()
            await asyncio.sleep(self._pause_s)
