"""Workers, their wanted instances, and the leases of partitions.

Liveness and expiry are judged only by the database's clock, because the clocks of workers may differ. Each function
that changes rows is one statement or one transaction, so it is safe under any number of concurrent callers.

A worker's epoch increases with each start under its name, and a lease's epoch with each change of owner. Neither ever
restarts, so an action with an old epoch is detected and ignored.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Final

import msgspec

from schemas.rows.cluster import DecisionRow, DuePartition, InstanceRow, Lease, WorkerRow
from schemas.status import InstanceState
from store.errors import StoreConflict
from store.pool import DatabaseSession, load_queries
from store.samples import write_decisions

_SQL: Final = load_queries("placement")

ALIVE_S: Final = 5.0
"""Seconds without a heartbeat after which a worker counts as dead; workers send one about every second."""


class TakeOver(StrEnum):
    """State of the replacement of a worker by others of its hardware."""

    WAITING = "waiting"
    """Another worker of the hardware drains first."""
    DRAINING = "draining"
    ALONE = "alone"
    """No other worker of its hardware is alive."""
    DONE = "done"


class HeartbeatResult(Enum):
    """Outcome of a heartbeat."""

    IN_TIME = auto()
    LATE = auto()
    """The previous one is older than the TTL: other workers may have taken partitions."""
    REFUSED = auto()
    """The worker must stop, because it has a successor or has been retired."""


class NameHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Process that holds the name of a worker, or held it last."""

    epoch: int
    host: str
    home: str
    """Its data folder, in the form of a worker's row."""
    retired: bool
    heartbeat_at: datetime
    alive: bool
    """True if the last heartbeat is younger than `ALIVE_S`."""


async def find_holder(session: DatabaseSession, worker: str) -> NameHolder | None:
    """Return the process that holds the name of a worker or held it last; None: the name was never used."""
    return await session.fetch_one(NameHolder, _SQL["find_worker"], worker, ALIVE_S)


async def register_worker(session: DatabaseSession, worker: WorkerRow) -> int:
    """Register a starting worker; return its epoch. Epoch, heartbeat and liveness in `worker` are ignored."""
    epoch = await session.fetch_value(int, _SQL["register_worker"], *_registered(worker), None)
    assert epoch is not None  # the statement always returns a row unless it expects an epoch
    return epoch


async def succeed_worker(session: DatabaseSession, worker: WorkerRow, epoch: int) -> int | None:
    """Register a worker as successor of the process with this epoch; None: another process was faster."""
    return await session.fetch_value(int, _SQL["register_worker"], *_registered(worker), epoch)


def _registered(w: WorkerRow) -> tuple[object, ...]:
    row = (w.name, w.hardware, w.device, w.host, w.slots, w.threads, w.memory_bytes, w.price_per_hour, w.runtimes)
    return (*row, w.builds, w.home, w.lease_ttl_s)


async def heartbeat(session: DatabaseSession, worker: str, epoch: int) -> HeartbeatResult:
    """Record a heartbeat, which renews all leases of the worker."""
    late = await session.fetch_value(bool, _SQL["heartbeat"], worker, epoch)
    return HeartbeatResult.REFUSED if late is None else HeartbeatResult.LATE if late else HeartbeatResult.IN_TIME


async def drain_to_be_replaced(session: DatabaseSession, worker: str, epoch: int) -> TakeOver:
    """Drain a worker that is to be replaced, if another one of its hardware is alive and none of them drains."""
    found = await session.fetch_value(str, _SQL["drain_to_be_replaced"], worker, epoch, ALIVE_S)
    return TakeOver(found or TakeOver.ALONE)


async def retire_worker(session: DatabaseSession, worker: str, epoch: int) -> bool:
    """Retire a worker that ends: it is no longer listed and owns no partitions; return false if it has a successor."""
    return await session.execute(_SQL["retire_worker"], worker, epoch) > 0


async def list_workers(session: DatabaseSession, *, alive_s: float = ALIVE_S) -> list[WorkerRow]:
    """List the workers that have not retired; `alive` is true if the last heartbeat is younger than `alive_s`."""
    return await session.fetch(WorkerRow, _SQL["list_workers"], alive_s)


async def list_instances(session: DatabaseSession, *, worker: str | None = None) -> list[InstanceRow]:
    """List the wanted instances of all workers, or of one."""
    return await session.fetch(InstanceRow, _SQL["list_instances"], worker)


async def put_instances(session: DatabaseSession, rows: Iterable[InstanceRow]) -> None:
    """Write wanted instances; the reported state of an existing instance is kept.

    Raises:
        StoreConflict: a variant or a worker does not exist.
    """
    await session.execute_many(
        _SQL["put_instance"], [(r.variant, r.worker, r.partitions, r.max_batch, r.reason) for r in rows]
    )


async def delete_instance(session: DatabaseSession, variant: str, worker: str) -> bool:
    """Delete a wanted instance, so that its worker drains and unloads it; return false if it was not wanted."""
    return await session.execute(_SQL["delete_instance"], variant, worker) > 0


async def change_placement(
    session: DatabaseSession,
    *,
    put: Sequence[InstanceRow] = (),
    delete: Sequence[tuple[str, str]] = (),
    decisions: Sequence[DecisionRow] = (),
) -> None:
    """Change the wanted instances and record the decisions; `delete` contains pairs of variant and worker.

    Call it in a transaction, so that both are committed or neither.

    Raises:
        StoreConflict: a variant or a worker does not exist any more.
    """
    if delete:
        variants = {variant for variant, _worker in delete}
        if gone := variants.difference(await session.fetch_values(str, _SQL["keep_variants"], sorted(variants))):
            raise StoreConflict(f"variant {min(gone)} does not exist any more")  # nor do decisions about it
        await session.execute_many(_SQL["delete_instance"], delete)
    if put:
        await put_instances(session, put)
    await write_decisions(session, decisions)


async def report_instance_state(
    session: DatabaseSession, worker: str, variant: str, state: InstanceState, reason: str = ""
) -> bool:
    """Store the state of an instance; an empty reason keeps the stored one. Return false if it is not wanted."""
    return await session.execute(_SQL["report_instance_state"], variant, worker, state, reason) > 0


async def acquire_leases(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int]
) -> list[Lease]:
    """Acquire leases of those partitions that are free, or whose owner is silent or has a successor.

    An owner is silent if it has sent no heartbeat for its `lease_ttl_s`. Returns the leases that the worker holds now,
    each with its fencing epoch. Another worker holds the missing partitions. A worker whose `epoch` is not the latest
    of its name gets no leases.

    Raises:
        StoreConflict: there is no such variant.
    """
    return await session.fetch(Lease, _SQL["acquire_leases"], worker, epoch, variant, sorted(set(partitions)))


async def request_leases(session: DatabaseSession, worker: str, variant: str, partitions: Collection[int]) -> None:
    """Request the owners of these partitions to release them, because the worker is ready to serve them."""
    await session.execute(_SQL["request_leases"], worker, variant, sorted(partitions))


async def withdraw_lease_requests(session: DatabaseSession, worker: str, variant: str) -> None:
    """Withdraw the worker's requests for partitions of the variant."""
    await session.execute(_SQL["withdraw_lease_requests"], worker, variant)


async def partitions_to_release(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int]
) -> list[DuePartition]:
    """List a worker's partitions to release now: the next owner requests them, or no living worker shall take them."""
    return await session.fetch(
        DuePartition, _SQL["partitions_to_release"], worker, epoch, variant, sorted(partitions), ALIVE_S
    )


async def worker_leases(session: DatabaseSession, worker: str, epoch: int) -> list[Lease]:
    """List the leases of a worker process. A missing lease is lost; after a late heartbeat, call this to notice."""
    return await session.fetch(Lease, _SQL["worker_leases"], worker, epoch)


async def release_leases(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int] | None = None
) -> int:
    """Release partitions of a variant, or all that the worker holds of it, so that others can take them at once."""
    wanted = None if partitions is None else sorted(partitions)
    return await session.execute(_SQL["release_leases"], worker, epoch, variant, wanted)


async def list_leases(session: DatabaseSession, *, variant: str | None = None) -> list[Lease]:
    """List the leases of living workers, of all variants or of one."""
    return await session.fetch(Lease, _SQL["list_leases"], variant)
