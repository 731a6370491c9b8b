"""Workers, the instances wanted of them, and the leases of partitions.

Liveness and expiry are judged by the database's clock alone: the clocks of workers may differ. Each function that
changes something is one statement or one transaction, so it holds against any number of racing callers.

A worker's epoch grows with each start under its name, and a lease's epoch with each change of owner; neither ever
starts again. So whoever acts on an old one can be told from the present owner.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from schemas.rows.placement import InstanceRow, Lease, WorkerRow
from schemas.rows.scaling import DecisionRow
from schemas.status import InstanceState
from store.pool import DatabaseSession
from store.samples import write_decisions
from store.sql import load_queries

_queries = load_queries("placement")
_FIND_WORKER: Final = _queries["find_worker"]
_REGISTER_WORKER: Final = _queries["register_worker"]
_HEARTBEAT: Final = _queries["heartbeat"]
_DRAIN_TO_BE_REPLACED: Final = _queries["drain_to_be_replaced"]
_RETIRE_WORKER: Final = _queries["retire_worker"]
_LIST_WORKERS: Final = _queries["list_workers"]
_LIST_INSTANCES: Final = _queries["list_instances"]
_PUT_INSTANCE: Final = _queries["put_instance"]
_DELETE_INSTANCE: Final = _queries["delete_instance"]
_REPORT_INSTANCE_STATE: Final = _queries["report_instance_state"]
_ACQUIRE_LEASES: Final = _queries["acquire_leases"]
_REQUEST_LEASES: Final = _queries["request_leases"]
_WITHDRAW_LEASE_REQUESTS: Final = _queries["withdraw_lease_requests"]
_PARTITIONS_TO_RELEASE: Final = _queries["partitions_to_release"]
_RENEW_LEASES: Final = _queries["renew_leases"]
_RELEASE_LEASES: Final = _queries["release_leases"]
_LIST_LEASES: Final = _queries["list_leases"]

ALIVE_S: Final = 5.0
"""Seconds without a heartbeat after which a worker counts as dead; workers send one about each second."""


class TakeOver(StrEnum):
    """How far others have taken over from a worker that is to be replaced."""

    WAITING = "waiting"
    """Another worker is taken over from first."""
    DRAINING = "draining"
    ALONE = "alone"
    """No other worker of its hardware lives."""
    DONE = "done"


class _PartitionRow(msgspec.Struct):
    """Row with nothing but the number of a partition."""

    partition: int


class NameHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Process that has the name of a worker, or had it last."""

    epoch: int
    host: str
    home: str
    """Its data folder, as in the row of a worker."""
    retired: bool
    heartbeat_at: datetime
    alive: bool
    """Whether the last heartbeat is younger than `ALIVE_S`."""


async def find_holder(session: DatabaseSession, worker: str) -> NameHolder | None:
    """Find the process that has the name of a worker; None: there was never one."""
    return await session.fetch_one(NameHolder, _FIND_WORKER, worker, ALIVE_S)


async def register_worker(session: DatabaseSession, worker: WorkerRow) -> int:
    """Register a worker that starts; returns its epoch. The row's own epoch, heartbeat and liveness are ignored."""
    epoch = await session.fetch_value(int, _REGISTER_WORKER, *_registered(worker), None)
    assert epoch is not None  # without an epoch that is expected it always returns a row
    return epoch


async def succeed_worker(session: DatabaseSession, worker: WorkerRow, epoch: int) -> int | None:
    """Register a worker after the holder of its name of this epoch; None: another process was faster."""
    return await session.fetch_value(int, _REGISTER_WORKER, *_registered(worker), epoch)


def _registered(w: WorkerRow) -> tuple[object, ...]:
    row = (w.name, w.hardware, w.device, w.host, w.slots, w.threads, w.memory_bytes, w.price_per_hour, w.runtimes)
    return (*row, w.builds, w.home)


async def heartbeat(session: DatabaseSession, worker: str, epoch: int) -> bool:
    """Note that a worker lives. False: a successor of its name has started, or it was retired; it must stop."""
    return await session.execute(_HEARTBEAT, worker, epoch) > 0


async def drain_to_be_replaced(session: DatabaseSession, worker: str, epoch: int) -> TakeOver:
    """Drain a worker before it is replaced, if no other of its hardware drains and one lives that does not."""
    found = await session.fetch_value(str, _DRAIN_TO_BE_REPLACED, worker, epoch, ALIVE_S)
    return TakeOver(found or TakeOver.ALONE)


async def retire_worker(session: DatabaseSession, worker: str, epoch: int) -> bool:
    """Note that a worker leaves: it is listed no longer and owns nothing. False if a successor has started."""
    return await session.execute(_RETIRE_WORKER, worker, epoch) > 0


async def list_workers(session: DatabaseSession, *, alive_s: float = ALIVE_S) -> list[WorkerRow]:
    """List the workers that have not retired; `alive` says if the last heartbeat is younger than `alive_s`."""
    return await session.fetch(WorkerRow, _LIST_WORKERS, alive_s)


async def list_instances(session: DatabaseSession, *, worker: str | None = None) -> list[InstanceRow]:
    """List the instances that are wanted of all workers, or of one."""
    return await session.fetch(InstanceRow, _LIST_INSTANCES, worker)


async def put_instances(session: DatabaseSession, rows: Iterable[InstanceRow]) -> None:
    """Write instances that are wanted; the state that a worker reported of one that exists stays.

    Raises:
        StoreConflict: a variant or a worker does not exist.
    """
    await session.execute_many(
        _PUT_INSTANCE, [(r.variant, r.worker, r.partitions, r.max_batch, r.reason) for r in rows]
    )


async def delete_instance(session: DatabaseSession, variant: str, worker: str) -> bool:
    """Delete an instance that is wanted; its worker drains and unloads it. False if it was not wanted."""
    return await session.execute(_DELETE_INSTANCE, variant, worker) > 0


async def change_placement(
    session: DatabaseSession,
    *,
    put: Sequence[InstanceRow] = (),
    delete: Sequence[tuple[str, str]] = (),
    decisions: Sequence[DecisionRow] = (),
) -> None:
    """Change which instances are wanted, and note why; `delete` holds pairs of variant and worker.

    To be called in a transaction, so that both happen or neither.

    Raises:
        StoreConflict: a variant or a worker does not exist any more.
    """
    if delete:
        await session.execute_many(_DELETE_INSTANCE, delete)
    if put:
        await put_instances(session, put)
    await write_decisions(session, decisions)


async def report_instance_state(
    session: DatabaseSession, worker: str, variant: str, state: InstanceState, reason: str = ""
) -> bool:
    """Note the state of an instance; an empty reason keeps the one that is there. False if it is not wanted."""
    return await session.execute(_REPORT_INSTANCE_STATE, variant, worker, state, reason) > 0


async def acquire_leases(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int], ttl_s: float
) -> list[Lease]:
    """Lease those of the partitions that are free, expired, or this worker's own of an earlier life.

    Returns the leases now held, each with its fencing epoch; a partition that is missing belongs to somebody else.
    A worker whose own `epoch` is no longer the latest of its name gets nothing.

    Raises:
        StoreConflict: there is no such variant.
    """
    return await session.fetch(Lease, _ACQUIRE_LEASES, worker, epoch, variant, sorted(set(partitions)), ttl_s)


async def request_leases(session: DatabaseSession, worker: str, variant: str, partitions: Collection[int]) -> None:
    """Ask the owners of these partitions to release them, since the worker is ready to take them."""
    await session.execute(_REQUEST_LEASES, worker, variant, sorted(partitions))


async def withdraw_lease_requests(session: DatabaseSession, worker: str, variant: str) -> None:
    """Note that the worker waits no longer for partitions of the variant."""
    await session.execute(_WITHDRAW_LEASE_REQUESTS, worker, variant)


async def partitions_to_release(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int]
) -> list[int]:
    """List a worker's partitions to release now: the next owner requests them, or no living worker is to be one."""
    wanted = sorted(partitions)
    rows = await session.fetch(_PartitionRow, _PARTITIONS_TO_RELEASE, worker, epoch, variant, wanted, ALIVE_S)
    return [row.partition for row in rows]


async def renew_leases(session: DatabaseSession, worker: str, epoch: int, ttl_s: float) -> list[Lease]:
    """Keep all leases of the worker for `ttl_s` more; returns those it still holds. What is missing was taken."""
    return await session.fetch(Lease, _RENEW_LEASES, worker, epoch, ttl_s)


async def release_leases(
    session: DatabaseSession, worker: str, epoch: int, variant: str, partitions: Collection[int] | None = None
) -> int:
    """Release partitions of a variant, or all that the worker has of it, so that another can take them at once."""
    wanted = None if partitions is None else sorted(partitions)
    return await session.execute(_RELEASE_LEASES, worker, epoch, variant, wanted)


async def list_leases(session: DatabaseSession, *, variant: str | None = None) -> list[Lease]:
    """List the leases that have not expired, of all variants or of one."""
    return await session.fetch(Lease, _LIST_LEASES, variant)
