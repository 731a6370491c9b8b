"""Listener for changed rows.

The tables announce a change on a channel, by LISTEN/NOTIFY or in the table `changes` (see `store.shared_connection`).
The payload is a hint that makes a full read unnecessary: `<table> <name>` on the registry's channel, and only the table
on most others.
"""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

from store.shared_connection import SharedConnection

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
