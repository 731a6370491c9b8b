"""Listens for changes of rows.

The tables announce a change on a channel, by LISTEN/NOTIFY or to be read, see `store.shared_connection`. What is said
of it is a hint, so that not everything must be read anew: `<table> <name>` on the channel of the registry, elsewhere
the table alone.
"""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

from store.shared_connection import SharedConnection

REGISTRY: Final = "infaas_registry"
"""Channel that says that tasks, architectures, variants or profiles changed."""
PLACEMENT: Final = "infaas_placement"
"""Channel that says that instances that are wanted changed, or workers came or left."""
LEASES: Final = "infaas_leases"
"""Channel that says that a lease was released, or is requested."""
SCALE: Final = "infaas_scale"
"""Channel that says that pins, the pause or the wanted numbers of workers changed."""
JOBS: Final = "infaas_jobs"
"""Channel that says that there are new jobs."""
REMOVALS: Final = "infaas_removals"
"""Channel that says that removals were asked for, begun or ended."""
REGISTRATIONS: Final = "infaas_registrations"
"""Channel that says that registrations were asked for, begun or ended."""
API_KEYS: Final = "infaas_api_keys"
"""Channel that says that API keys were made or revoked."""

_MOST_PENDING: Final = 1000
"""Changes of a channel that are told apart; of more, anything may have changed."""


class ChangeListener:
    """Listener to channels; an async context manager, and an async iterator of the names of those that changed.

    Every channel is yielded once at first, and once after an outage: an initial read and one after an outage are the
    same case. While Postgres is away the iterator waits. Several changes of a channel that nobody has asked for yet are
    one; `taken` says what they were.

    Args:
        source: a DSN, to which it has a connection of its own then, or the connection that it shares with others.
        channels: what to listen to.
    """

    def __init__(self, source: str | SharedConnection, channels: Collection[str]) -> None:
        self.channels = tuple(channels)
        self.taken: frozenset[str] | None = None
        """What changed of the channel that was yielded last, in the words of its triggers; None: anything may have."""
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

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
        """Have `channel` yielded again: its last change could not be acted on."""
        self.hear(channel, None)

    def hear(self, channel: str, payload: str | None) -> None:
        """Take note of a change; without a payload anything may have changed."""
        changed = self._pending.setdefault(channel, set())
        if changed is not None and payload is not None and len(changed) < _MOST_PENDING:
            changed.add(payload)
        else:
            self._pending[channel] = None
        self._wake.set()
