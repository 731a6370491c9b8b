"""Name of a worker: held by one process of a data folder at a time, and by one living worker on all machines.

The name determines which leases the worker may take back, and finds its crash journal. So the process holds a lock of
the name in its data folder; the kernel releases it when the process ends, however it ends. A worker without a given
name takes the first of `<hardware>-<host>-0`, `-1`, ... whose lock is free, and has the same name after a restart.

A claim in Postgres keeps processes of other data folders and machines apart:

1. A name is free if no worker has it, if it was given up, or if its holder has sent no heartbeat for `ALIVE_S`.
2. If the holder was a process of this data folder on this host, it has ended: only one process at a time holds the lock
   of the name there. A killed worker is therefore back at once.
3. Any other holder is watched. A heartbeat during the watch proves that it lives, and the claim is refused. Without one
   the name is free after `ALIVE_S`, e.g. when a worker was moved from a lost machine.

A claim names the epoch of the previous holder, so only one of two simultaneous claims succeeds.
"""

import asyncio
import fcntl
import re
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from enum import Enum, auto
from itertools import count
from pathlib import Path
from typing import Final

from schemas.errors import OperatorError
from schemas.rows.cluster import WorkerRow
from store.placement import NameHolder, find_holder, succeed_worker
from store.pool import DatabaseSession
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


_CLAIM_LOOK_S: Final = 0.25


class NameVerdict(Enum):
    """Outcome of one check of a name."""

    FREE = auto()
    TAKEN = auto()
    UNKNOWN = auto()
    """The holder may live: check again."""


def judge_name(first: NameHolder | None, now: NameHolder | None, host: str, home: str) -> NameVerdict:
    """Judge if a name is free for a process of this host and data folder.

    Args:
        first: holder at the first check.
        now: holder at this check; None: the name was never used.
        host: host of the claiming process.
        home: data folder of that process, as in the row of a worker.
    """
    if now is None or now.retired or not now.alive or (now.host, now.home) == (host, home):
        return NameVerdict.FREE
    moved = first is not None and (first.epoch, first.heartbeat_at) != (now.epoch, now.heartbeat_at)
    return NameVerdict.TAKEN if moved else NameVerdict.UNKNOWN


async def claim_name(session: DatabaseSession, worker: WorkerRow) -> int:
    """Register a worker under its name. Returns its epoch. It may take `ALIVE_S`.

    Raises:
        OperatorError: a living worker of another machine or data folder has the name.
        StoreUnavailable: Postgres cannot be reached.
    """
    first: NameHolder | None = None
    while True:
        holder = await find_holder(session, worker.name)
        verdict = judge_name(first, holder, worker.host, worker.home)
        if verdict is NameVerdict.FREE:
            epoch = await succeed_worker(session, worker, 0 if holder is None else holder.epoch)
            if epoch is not None:
                return epoch
        elif verdict is NameVerdict.TAKEN and holder is not None:
            raise OperatorError(
                f"a worker named {worker.name} runs on {holder.host} (data folder {holder.home}): give each its own "
                "--name (INFAAS_WORKERS_NAME); if this data folder is a copy of that one, remove the file `name` in it"
            )
        first = first or holder
        await asyncio.sleep(_CLAIM_LOOK_S)
