"""Claims the name of a worker, so that no two living workers have it, on whatever machines.

Rules.
1. A name that nobody has, that was given up, or whose holder has sent no heartbeat for `ALIVE_S` is free.
2. The holder before was a process of this data folder on this host: it has ended, since one process at a time has the
   lock of the name there (`worker_identity`). A worker that was killed is back at once.
3. Any other holder is watched: a heartbeat that comes meanwhile proves that it lives, and the claim is refused; without
   one the name is free after `ALIVE_S`, as when a worker was moved from a machine that is lost.

A claim names the epoch of the holder that it follows, so of two claims at the same moment one is made.
"""

import asyncio
from enum import Enum, auto
from typing import Final

from schemas.errors import OperatorError
from schemas.rows.placement import WorkerRow
from store.placement import NameHolder, find_holder, succeed_worker
from store.pool import DatabaseSession

_LOOK_S: Final = 0.25


class NameVerdict(Enum):
    """Outcome of a look at who has a name."""

    FREE = auto()
    TAKEN = auto()
    UNKNOWN = auto()
    """It may live: look again."""


def judge_name(first: NameHolder | None, now: NameHolder | None, host: str, home: str) -> NameVerdict:
    """Judge whether a name is free for a process of this host and data folder.

    Args:
        first: Its holder at the first look.
        now: Its holder at this look; None: nobody ever had it.
        host: Host of the process that claims it.
        home: Data folder of that process, as in the row of a worker.
    """
    if now is None or now.retired or not now.alive or (now.host, now.home) == (host, home):
        return NameVerdict.FREE
    moved = first is not None and (first.epoch, first.heartbeat_at) != (now.epoch, now.heartbeat_at)
    return NameVerdict.TAKEN if moved else NameVerdict.UNKNOWN


async def claim_name(session: DatabaseSession, worker: WorkerRow) -> int:
    """Register a worker under its name; returns its epoch. It may take `ALIVE_S`.

    Raises:
        OperatorError: a living worker of another machine or data folder has the name.
        StoreUnavailable: Postgres is away.
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
        await asyncio.sleep(_LOOK_S)
