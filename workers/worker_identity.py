"""The name of a worker, which one process of a data folder has at a time.

A worker's name says whose leases it may take back, and finds its crash journal. So the process holds a lock of the name
in its data folder, which the kernel frees when it ends, however it does, for the one that follows. A worker without a
name takes the first of `<hardware>-<host>-0`, `-1`, ... whose lock is free, and has the same after a restart. Processes
of other data folders and machines are kept apart by `name_claim`.
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
"""Letters of the host's name that fit into a worker's beside the rest."""


@asynccontextmanager
async def named_worker(settings: WorkerSettings) -> AsyncGenerator[WorkerSettings]:
    """Settings with a name, the given one or a free one, which is held while the context is open.

    Raises:
        OperatorError: the given one is held by another process, which lives.
    """
    with ExitStack() as held:
        if settings.name:
            await _hold_given(settings, held)
            yield settings
        else:
            name = next(name for name in _names(settings.hardware) if _hold(settings.home / "workers", name, held))
            yield settings.model_copy(update={"name": name})


async def _hold_given(settings: WorkerSettings, held: ExitStack) -> None:
    """Hold the name that was given. The process that had it may still be ending.

    Raises:
        OperatorError: it does not end.
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
    """Hold a name until the stack closes; False if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / f"{name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    held.enter_context(lock)
    return True
