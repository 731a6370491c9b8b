"""Claim of a worker's name, so that no two living workers on any machines have the same one.

Rules.
1. A name is free if no worker has it, if it was given up, or if its holder has sent no heartbeat for `ALIVE_S`.
2. If the holder was a process of this data folder on this host, it has ended: only one process at a time holds the lock
   of the name there (`worker_identity`). A killed worker is therefore back at once.
3. Any other holder is watched. A heartbeat during the watch proves that it lives, and the claim is refused. Without one
   the name is free after `ALIVE_S`, e.g. when a worker was moved from a lost machine.

A claim names the epoch of the previous holder, so only one of two simultaneous claims succeeds.
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
        await asyncio.sleep(_LOOK_S)
