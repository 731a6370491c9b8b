"""Wanted scale: pins and pause, set by people, and numbers of workers and drains, set by the autoscaler.

A change notifies `store.shared_connection.SCALE`; a change of drains notifies `store.shared_connection.PLACEMENT`.
"""

from collections.abc import Collection, Iterable
from typing import Final

from schemas.rows.cluster import ClusterRows, Pin, PinKind, ScaleControl, WantedWorkers
from store.placement import list_instances, list_workers
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("scaling")


async def list_pins(session: DatabaseSession) -> list[Pin]:
    """List all pins by kind and name."""
    return await session.fetch(Pin, _SQL["list_pins"])


async def put_pin(session: DatabaseSession, pin: Pin) -> None:
    """Set a pin; it replaces the previous bounds.

    Raises:
        StoreConflict: the bounds are negative or both absent, or the minimum exceeds the maximum.
    """
    await session.execute(_SQL["put_pin"], pin.kind, pin.name, pin.minimum, pin.maximum, pin.pinned_by)


async def delete_pin(session: DatabaseSession, kind: PinKind, name: str) -> bool:
    """Delete a pin; return false if there was none."""
    return await session.execute(_SQL["delete_pin"], kind, name) > 0


async def get_control(session: DatabaseSession) -> ScaleControl:
    """Return the state of the pause."""
    control = await session.fetch_one(ScaleControl, _SQL["get_control"])
    assert control is not None  # a migration writes the row
    return control


async def set_paused(session: DatabaseSession, paused: bool, by: str) -> bool:
    """Pause or resume scaling; return false if the state is the same already."""
    return await session.execute(_SQL["set_paused"], paused, by) > 0


async def list_wanted(session: DatabaseSession) -> list[WantedWorkers]:
    """Return the wanted number of workers by hardware."""
    return await session.fetch(WantedWorkers, _SQL["list_wanted"])


async def put_wanted(session: DatabaseSession, rows: Iterable[WantedWorkers]) -> None:
    """Store the wanted number of workers of these hardware types; other rows are kept."""
    await session.execute_many(_SQL["put_wanted"], [(row.hardware, row.count, row.reason) for row in rows])


async def drain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Drain workers: they get no new instances, their instances move to other workers, and then they end."""
    await session.execute(_SQL["drain_workers"], list(names))


async def undrain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Stop the draining of workers."""
    await session.execute(_SQL["undrain_workers"], list(names))


async def remove_worker(session: DatabaseSession, name: str) -> None:
    """Retire a worker whose process is gone for good, so that its partitions can be taken at once."""
    await session.execute(_SQL["remove_worker"], name)


async def read_cluster(pool: Pool) -> ClusterRows:
    """Read the wanted and the actual state of the cluster in one snapshot.

    Separate reads could see the new number of workers without the drain that was written with it. The autoscaler would
    then drain or start one worker too many, and a display would show a state that never existed.

    Raises:
        StoreUnavailable: Postgres is unavailable.
    """
    async with pool.snapshot() as session:
        return ClusterRows(
            control=await get_control(session),
            wanted=await list_wanted(session),
            workers=await list_workers(session),
            instances=await list_instances(session),
            pins=await list_pins(session),
        )
