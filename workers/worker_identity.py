"""Name of a worker, held by one process of a data folder at a time.

The name determines which leases the worker may take back, and finds its crash journal. So the process holds a lock of
the name in its data folder; the kernel releases it when the process ends, however it ends. A worker without a given
name takes the first of `<hardware>-<host>-0`, `-1`, ... whose lock is free, and has the same name after a restart.
`name_claim` keeps processes of other data folders and machines apart.
"""

import asyncio
import fcntl
import re
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

from schemas.errors import OperatorError
from workers.settings import WorkerSettings

_ENDING_S: Final = 5.0
_LOOK_S: Final = 0.05
_LONGEST_HOST: Final = 40
"""Most letters of the host's name in a worker's name."""


@asynccontextmanager
async def named_worker(settings: WorkerSettings) -> AsyncGenerator[WorkerSettings]:
    """Yield the settings with a name, the given one or a free one, which is held while the context is open.

    Raises:
        OperatorError: another process holds the given name, and does not end.
    """
    with ExitStack() as held:
        if settings.name:
            await _hold_given(settings, held)
            yield settings
        else:
            name = next(name for name in _names(settings.hardware) if _hold(settings.home / "workers", name, held))
            yield settings.model_copy(update={"name": name})


async def _hold_given(settings: WorkerSettings, held: ExitStack) -> None:
    """Hold the given name; its previous process may still be ending.

    Raises:
        OperatorError: that process does not end.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + _ENDING_S
    while not _hold(settings.home / "workers", settings.name, held):
        if clock() > until:
            raise OperatorError(
                f"a worker named {settings.name} runs in {settings.home.absolute()}: give each its own --name "
                "(INFAAS_WORKERS_NAME)"
            )
        await asyncio.sleep(_LOOK_S)


def _names(hardware: str) -> Generator[str]:
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower())[:_LONGEST_HOST].strip("-") or "host"
    for number in count():
        yield f"{hardware}-{host}-{number}"


def _hold(folder: Path, name: str, held: ExitStack) -> bool:
    """Hold a name until the stack closes. Returns false if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / f"{name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    held.enter_context(lock)
    return True
