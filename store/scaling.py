"""Wanted scale: pins and pause, set by people, and numbers of workers and drains, set by the autoscaler.

A change notifies `store.change_listener.SCALE`; a change of drains notifies `store.change_listener.PLACEMENT`.
"""

from collections.abc import Collection, Iterable
from typing import Final

from schemas.rows.scaling import Pin, PinKind, ScaleControl, WantedWorkers
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("scaling")
_LIST_PINS: Final = _queries["list_pins"]
_PUT_PIN: Final = _queries["put_pin"]
_DELETE_PIN: Final = _queries["delete_pin"]
_GET_CONTROL: Final = _queries["get_control"]
_SET_PAUSED: Final = _queries["set_paused"]
_LIST_WANTED: Final = _queries["list_wanted"]
_PUT_WANTED: Final = _queries["put_wanted"]
_DRAIN_WORKERS: Final = _queries["drain_workers"]
_UNDRAIN_WORKERS: Final = _queries["undrain_workers"]
_REMOVE_WORKER: Final = _queries["remove_worker"]


async def list_pins(session: DatabaseSession) -> list[Pin]:
    """List all pins by kind and name."""
    return await session.fetch(Pin, _LIST_PINS)


async def put_pin(session: DatabaseSession, pin: Pin) -> None:
    """Set a pin; it replaces the previous bounds.

    Raises:
        StoreConflict: the bounds are negative or both absent, or the minimum exceeds the maximum.
    """
    await session.execute(_PUT_PIN, pin.kind, pin.name, pin.minimum, pin.maximum, pin.pinned_by)


async def delete_pin(session: DatabaseSession, kind: PinKind, name: str) -> bool:
    """Delete a pin; return false if there was none."""
    return await session.execute(_DELETE_PIN, kind, name) > 0


async def get_control(session: DatabaseSession) -> ScaleControl:
    """Return the state of the pause."""
    control = await session.fetch_one(ScaleControl, _GET_CONTROL)
    assert control is not None  # a migration writes the row
    return control


async def set_paused(session: DatabaseSession, paused: bool, by: str) -> bool:
    """Pause or resume scaling; return false if the state is the same already."""
    return await session.execute(_SET_PAUSED, paused, by) > 0


async def list_wanted(session: DatabaseSession) -> list[WantedWorkers]:
    """Return the wanted number of workers by hardware."""
    return await session.fetch(WantedWorkers, _LIST_WANTED)


async def put_wanted(session: DatabaseSession, rows: Iterable[WantedWorkers]) -> None:
    """Store the wanted number of workers of these hardware types; other rows are kept."""
    await session.execute_many(_PUT_WANTED, [(row.hardware, row.count, row.reason) for row in rows])


async def drain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Drain workers: they get no new instances, their instances move to other workers, and then they end."""
    await session.execute(_DRAIN_WORKERS, list(names))


async def undrain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Stop the draining of workers."""
    await session.execute(_UNDRAIN_WORKERS, list(names))


async def remove_worker(session: DatabaseSession, name: str) -> None:
    """Retire a worker whose process is gone for good, so that its partitions can be taken at once."""
    await session.execute(_REMOVE_WORKER, name)
