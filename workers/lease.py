"""Leases, the right to serve partitions: taken before reading them, kept while serving, given back afterwards.

Rules.
* One statement a second renews all leases of the worker and is its heartbeat. What is missing from the answer was taken
  by another, and is forgotten at once.
* While Postgres is away the worker goes on serving: without Postgres nobody can take its leases either. If only this
  worker is cut off from it, another takes over after the TTL and both serve until the cut is healed. Queries are then
  computed twice, and the client still sees one result; stopping instead would turn each outage of Postgres into one of
  the service.
* Who has slept for longer than the leases last commits nothing before it has asked whether they are still its own.
* Calls are one at a time, so that a renewal never meets an acquisition half done.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from schemas.errors import OperatorError
from store.errors import StoreUnavailable
from store.placement import (
    acquire_leases,
    heartbeat,
    partitions_to_release,
    release_leases,
    renew_leases,
    request_leases,
    withdraw_lease_requests,
)
from store.pool import Pool

log = logging.getLogger(__name__)


class Leases:
    """Leases of one worker process, which its epoch tells from those before."""

    def __init__(
        self, pool: Pool, worker: str, epoch: int, ttl_s: float, on_lost: Callable[[str, set[int]], None]
    ) -> None:
        """`on_lost` is called with a variant and those of its partitions that were taken away."""
        self._pool = pool
        self._worker = worker
        self._epoch = epoch
        self._ttl_s = ttl_s
        self._on_lost = on_lost
        self._held: dict[str, set[int]] = {}
        self._lock = asyncio.Lock()
        self._away = False
        self._renewed_s = time.monotonic()

    def are_current(self) -> bool:
        """Whether we have looked lately: a process that slept for longer than the leases last may have lost them."""
        return time.monotonic() - self._renewed_s < self._ttl_s

    async def acquire(self, variant: str, partitions: Collection[int]) -> set[int]:
        """Take those of the partitions that can be had now, and ask for the others; none while Postgres is away.

        Raises:
            StoreConflict: there is no such variant.
        """
        async with self._lock:
            try:
                leases = await acquire_leases(self._pool, self._worker, self._epoch, variant, partitions, self._ttl_s)
                taken = {lease.partition for lease in leases}
                if taken:
                    self._held.setdefault(variant, set()).update(taken)
                if len(taken) < len(partitions):
                    await request_leases(self._pool, self._worker, variant, set(partitions) - taken)
            except StoreUnavailable as error:
                self._log_outage(error)
                return set()
            return taken

    async def due_for_handover(self, variant: str, partitions: Collection[int]) -> frozenset[int]:
        """Partitions to release now, since they are requested or nobody is to have them."""
        try:
            return frozenset(await partitions_to_release(self._pool, self._worker, self._epoch, variant, partitions))
        except StoreUnavailable as error:
            self._log_outage(error)
            return frozenset()

    async def withdraw_requests(self, variant: str) -> None:
        """Withdraw the requests for partitions of the variant."""
        try:
            await withdraw_lease_requests(self._pool, self._worker, variant)
        except StoreUnavailable as error:  # at worst the next move of that partition has a gap
            self._log_outage(error)

    async def release(self, variant: str, partitions: Collection[int]) -> None:
        """Give partitions back; while Postgres is away, as soon as it returns."""
        async with self._lock:
            held = self._held.get(variant, set())
            held.difference_update(partitions)
            if not held:
                self._held.pop(variant, None)
            await self._release(variant, set(partitions))

    async def keep_renewing(self, interval_s: float) -> None:
        """Renew the leases until cancelled.

        Raises:
            OperatorError: another worker of this name has started.
        """
        while True:
            await asyncio.sleep(interval_s)
            async with self._lock:
                try:
                    await self._renew()
                except StoreUnavailable as error:
                    self._log_outage(error)
                else:
                    self._away = False
                self._renewed_s = time.monotonic()

    async def _renew(self) -> None:
        if not await heartbeat(self._pool, self._worker, self._epoch):
            raise OperatorError(
                f"another worker named {self._worker} has started, or it was retired while this one could not reach "
                "Postgres; give each its own --name (INFAAS_WORKERS_NAME)"
            )
        kept: dict[str, set[int]] = {}
        for lease in await renew_leases(self._pool, self._worker, self._epoch, self._ttl_s):
            kept.setdefault(lease.variant, set()).add(lease.partition)
        for variant, held in list(self._held.items()):
            lost = held - kept.get(variant, set())
            if lost:
                held -= lost
                log.warning("partitions %s of %s were taken by another worker", sorted(lost), variant)
                self._on_lost(variant, lost)
        for variant, ours in kept.items():  # acquired or to be released when Postgres went away
            stray = ours - self._held.get(variant, set())
            if stray:
                await self._release(variant, stray)

    async def _release(self, variant: str, partitions: set[int]) -> None:
        try:
            await release_leases(self._pool, self._worker, self._epoch, variant, partitions)
        except StoreUnavailable as error:  # the next renewal finds them unused
            self._log_outage(error)

    def _log_outage(self, error: StoreUnavailable) -> None:
        if not self._away:
            log.warning("serving on with the leases there are: %s", error)
        self._away = True
