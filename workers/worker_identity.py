"""The name that a worker has when nobody gave it one: its own on this machine, and the same after a restart.

A worker's name says whose leases it may take back, and finds its crash journal. Two workers of one name would put each
other out for ever. So a worker without a name takes the first of `<hardware>-<host>-0`, `-1`, ... that no living worker
of this home holds: the kernel frees it when the process ends, however it does, for the one that follows.
"""

import fcntl
import re
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from workers.settings import WorkerSettings

_LONGEST_HOST: Final = 40
"""Letters of the host's name that fit into a worker's beside the rest."""


@contextmanager
def named_worker(settings: WorkerSettings) -> Generator[WorkerSettings]:
    """Settings with a name: the given one, or a free one that is held while the context is open."""
    with ExitStack() as held:
        if settings.name:
            yield settings
        else:
            name = next(name for name in _names(settings.hardware) if _hold(settings.home / "workers", name, held))
            yield settings.model_copy(update={"name": name})


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
