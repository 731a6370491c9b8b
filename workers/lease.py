"""Leases, the right to serve partitions: acquired before reading them, renewed while serving, released afterwards.

Rules.
* A heartbeat each second is one statement and renews all leases of the worker, because no other worker can take a
  partition while the heartbeats of its owner last.
* Leases are read after a heartbeat that was late, after an error, and every `_READ_S`. A lease that is missing was
  taken by another worker and is dropped at once.
* During an outage of Postgres the worker keeps serving: no other worker can take its leases either. If only this worker
  cannot reach Postgres, another takes over after the TTL, and both serve until the connection is back. Queries are then
  computed twice, and the client still sees one result. Stopping instead would turn each outage of Postgres into an
  outage of the service.
* A worker that has slept for longer than the TTL commits nothing before it has checked its leases.
* Calls run one at a time, so that a renewal never sees an acquisition half done.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Final

from schemas.errors import OperatorError
from schemas.rows.cluster import DuePartition
from store.errors import StoreUnavailable
from store.placement import (
    HeartbeatResult,
    acquire_leases,
    heartbeat,
    partitions_to_release,
    release_leases,
    request_leases,
    withdraw_lease_requests,
    worker_leases,
)
from store.pool import Pool

log = logging.getLogger(__name__)

_READ_S: Final = 30.0
"""Longest time between two readings of the leases; it ends a doubt that no heartbeat shows, e.g. if the clock of the
database was set back."""


class Leases:
    """Leases of one worker process; its epoch distinguishes it from earlier processes of the same name."""

    def __init__(
        self, pool: Pool, worker: str, epoch: int, ttl_s: float, on_lost: Callable[[str, set[int]], None]
    ) -> None:
        """`on_lost` is called with a variant and those of its partitions that another worker has taken."""
        self._pool = pool
        self._worker = worker
        self._epoch = epoch
        self._ttl_s = ttl_s
        self._on_lost = on_lost
        self._held: dict[str, set[int]] = {}
        self._lock = asyncio.Lock()
        self._away = False
        self._renewed_s = time.monotonic()
        self._read_s = time.monotonic()
        self._doubtful = False
        """True if the leases may differ from their rows, so that they must be read."""

    def are_current(self) -> bool:
        """Return true if a renewal was tried within the TTL; a process that slept longer may have lost its leases."""
        return time.monotonic() - self._renewed_s < self._ttl_s

    async def acquire(self, variant: str, partitions: Collection[int]) -> set[int]:
        """Acquire the free ones of the partitions and request the others. Acquires none while Postgres is unavailable.

        Raises:
            StoreConflict: the variant does not exist.
        """
        async with self._lock:
            with self._tolerate_outage():
                leases = await acquire_leases(self._pool, self._worker, self._epoch, variant, partitions)
                taken = {lease.partition for lease in leases}
                if taken:
                    self._held.setdefault(variant, set()).update(taken)
                if len(taken) < len(partitions):
                    await request_leases(self._pool, self._worker, variant, set(partitions) - taken)
                return taken
            return set()

    async def due_for_handover(self, variant: str, partitions: Collection[int]) -> list[DuePartition]:
        """Return the partitions to release now, because another worker requests them or no worker is to have them."""
        with self._tolerate_outage():
            return await partitions_to_release(self._pool, self._worker, self._epoch, variant, partitions)
        return []

    async def withdraw_requests(self, variant: str) -> None:
        """Withdraw the requests for partitions of the variant."""
        with self._tolerate_outage():  # at worst the next move of that partition causes a pause
            await withdraw_lease_requests(self._pool, self._worker, variant)

    async def release(self, variant: str, partitions: Collection[int]) -> None:
        """Release partitions; during an outage of Postgres, as soon as it is back."""
        async with self._lock:
            held = self._held.get(variant, set())
            held.difference_update(partitions)
            if not held:
                self._held.pop(variant, None)
            await self._release(variant, set(partitions))

    async def keep_renewing(self, interval_s: float) -> None:
        """Renew the leases until cancelled.

        Raises:
            OperatorError: another worker of this name has started, or this one was retired.
        """
        while True:
            await asyncio.sleep(interval_s)
            async with self._lock:
                began_s = time.monotonic()
                with self._tolerate_outage():
                    await self._renew()
                    self._away = False
                # The process may have slept during the call.
                self._renewed_s = time.monotonic() if self._away else began_s

    async def _renew(self) -> None:
        beat = await heartbeat(self._pool, self._worker, self._epoch)
        if beat is HeartbeatResult.REFUSED:
            raise OperatorError(
                f"another worker named {self._worker} has started, or it was retired while this one could not reach "
                "Postgres; give each its own --name (INFAAS_WORKERS_NAME)"
            )
        if beat is HeartbeatResult.LATE:
            self._doubtful = True
        if self._doubtful or time.monotonic() - self._read_s > _READ_S:
            self._doubtful = False
            await self._read()
            self._read_s = time.monotonic()

    async def _read(self) -> None:
        """Drop leases that other workers have taken, and release leases that are not in use."""
        kept: dict[str, set[int]] = {}
        for lease in await worker_leases(self._pool, self._worker, self._epoch):
            kept.setdefault(lease.variant, set()).add(lease.partition)
        for variant, held in list(self._held.items()):
            lost = held - kept.get(variant, set())
            if lost:
                held -= lost
                log.warning("partitions %s of %s were taken by another worker", sorted(lost), variant)
                self._on_lost(variant, lost)
        for variant, ours in kept.items():  # acquired, or to be released, when Postgres became unavailable
            stray = ours - self._held.get(variant, set())
            if stray:
                await self._release(variant, stray)

    async def _release(self, variant: str, partitions: set[int]) -> None:
        with self._tolerate_outage():  # the next heartbeat finds them unused
            await release_leases(self._pool, self._worker, self._epoch, variant, partitions)

    @contextmanager
    def _tolerate_outage(self) -> Generator[None]:
        """Log the first error of an outage of Postgres, and raise none. Any error leaves the leases in doubt."""
        try:
            yield
        except StoreUnavailable as error:
            self._doubtful = True
            if not self._away:
                log.warning("Postgres is unavailable, keeping current leases: %s", error)
            self._away = True
        except BaseException:
            self._doubtful = True
            raise
