"""Presence of workers that execute builds, and the error if there is none."""

from schemas.errors import OperatorError
from schemas.hardware import Hardware
from store.placement import list_workers
from store.pool import Pool


class NoWorker(OperatorError):
    """No worker of a hardware type executes builds."""

    def __init__(self, hardware: str) -> None:
        number = 2 if hardware == Hardware.CPU else 0
        super().__init__(
            f"there is no worker of {hardware} to make and measure variants: start one, e.g. `infaas up --worker "
            f"{hardware}:{number}`, or wait for one by `--if-no-worker wait`, or use this machine by `--local`"
        )


async def has_builder(pool: Pool, hardware: str) -> bool:
    """Return true if a live worker of a hardware type executes builds."""
    return any(row.hardware == hardware and row.alive and row.builds for row in await list_workers(pool))
