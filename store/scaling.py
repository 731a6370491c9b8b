"""The scale that is wanted: by people (pins, the pause) and by the autoscaler (numbers of workers, drains).

A change of any of it notifies `store.change_listener.SCALE`, of drains `store.change_listener.PLACEMENT`.
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
    """List all bounds that people set, by kind and name."""
    return await session.fetch(Pin, _LIST_PINS)


async def put_pin(session: DatabaseSession, pin: Pin) -> None:
    """Set the bounds of something, instead of those it had.

    Raises:
        StoreConflict: the bounds are negative, none, or the minimum is above the maximum.
    """
    await session.execute(_PUT_PIN, pin.kind, pin.name, pin.minimum, pin.maximum, pin.pinned_by)


async def delete_pin(session: DatabaseSession, kind: PinKind, name: str) -> bool:
    """Take bounds away; False if there were none."""
    return await session.execute(_DELETE_PIN, kind, name) > 0


async def get_control(session: DatabaseSession) -> ScaleControl:
    """Read whether a person has paused the scale."""
    control = await session.fetch_one(ScaleControl, _GET_CONTROL)
    assert control is not None  # a migration wrote the one row
    return control


async def set_paused(session: DatabaseSession, paused: bool, by: str) -> bool:
    """Pause the scale as it is, or let it follow load again; False if it is so already."""
    return await session.execute(_SET_PAUSED, paused, by) > 0


async def list_wanted(session: DatabaseSession) -> list[WantedWorkers]:
    """Read how many workers of each hardware should run."""
    return await session.fetch(WantedWorkers, _LIST_WANTED)


async def put_wanted(session: DatabaseSession, rows: Iterable[WantedWorkers]) -> None:
    """Write how many workers of these hardware types should run; what is wanted of others stays."""
    await session.execute_many(_PUT_WANTED, [(row.hardware, row.count, row.reason) for row in rows])


async def drain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Drain these workers: they get nothing new, what they host moves away, and they end."""
    await session.execute(_DRAIN_WORKERS, list(names))


async def undrain_workers(session: DatabaseSession, names: Collection[str]) -> None:
    """Let these workers stay, which were draining."""
    await session.execute(_UNDRAIN_WORKERS, list(names))


async def remove_worker(session: DatabaseSession, name: str) -> None:
    """Remove a worker whose process is gone for good: its partitions can be taken at once."""
    await session.execute(_REMOVE_WORKER, name)
