"""Name of a process, protected by a session lock of Postgres while the process lives.

The lock ends with its connection. If the process is killed, a successor gets the name at once; if its machine is lost,
within some seconds (`store.leader`). A process that loses its connection to Postgres continues, and takes the lock
again after it has reconnected. If another process has the name by then, it ends.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from schemas.errors import OperatorError
from store.leader import Leadership, LeadTaken

_PATIENCE_S: Final = 6.0
"""Timeout in seconds for the lock; longer than Postgres holds the lock of a lost machine."""


@asynccontextmanager
async def held_name(dsn: str, kind: str, name: str, setting: str) -> AsyncGenerator[None]:
    """Hold the name of a process while the context is open; entering waits until the name is held.

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
