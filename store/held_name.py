"""The name of a process, held by a session lock of Postgres for as long as the process lives.

The lock ends with its connection: at once when the process is killed, so that its successor gets the name, and within
some seconds when its machine is lost (`store.leader`). A process that is cut off from Postgres goes on, and holds the
name again once it is back; if another one has it by then, it ends.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from schemas.errors import OperatorError
from store.leader import Leadership, LeadTaken

_PATIENCE_S: Final = 6.0
"""Longer than the lock of a lost machine lasts."""


@asynccontextmanager
async def held_name(dsn: str, kind: str, name: str, setting: str) -> AsyncGenerator[None]:
    """Hold the name of a process while the context is open; it is open once the name is held.

    Args:
        dsn: The Postgres of the system.
        kind: Kind of process that has such a name.
        name: The name.
        setting: The variable that gives a process another name.

    Raises:
        OperatorError: another process holds it; in a group, as from a task.
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
