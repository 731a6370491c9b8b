"""Infliction of the faults of a scenario on a system of `infaas up` on this machine."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from infaas.cli.connect import running_state
from schemas.errors import OperatorError
from simulator.scenario import FaultKind, InflictedFault

_WORKER = "workers"
"""Module of a worker."""


async def inflict_all(home: Path, faults: Sequence[InflictedFault], began_s: float) -> None:
    """Inflict each fault when it is due; the trace begins at the monotonic time `began_s`.

    Raises:
        OperatorError: a fault other than the death of a worker is wanted, or no worker of this machine runs.
    """
    for fault in sorted(faults, key=lambda one: one.at_s):
        if fault.kind is not FaultKind.WORKER_DIES:
            raise OperatorError(f"only worker-dies can be inflicted on a real system, not {fault.kind}")
        await asyncio.sleep(max(began_s + fault.at_s - time.monotonic(), 0.0))
        os.kill(_worker_pid(home, fault.number), signal.SIGKILL)


def _worker_pid(home: Path, number: int) -> int:
    """Return the process id of a worker by its number in the order of the names, as in a simulation."""
    services = running_state(home).services
    names = sorted(name for name, one in services.items() if one.module == _WORKER)
    if not names:
        raise OperatorError("no worker of this machine runs, so none can be killed")
    return services[names[number % len(names)]].pid
