"""Owners and visibility of tasks and models; see `schemas.access`.

A change is one row and notifies `store.change_listener.REGISTRY`, so gateways and selectors apply it within
milliseconds.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from schemas.access import PUBLIC, Access, Visibility
from store.errors import StoreConflict
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("access")
_LIST_ACCESS: Final = _queries["list_access"]
_BEGIN_ACCESS: Final = _queries["begin_access"]
_SET_ACCESS: Final = _queries["set_access"]
_LOCK_ACCESS: Final = _queries["lock_access"]


class _AccessRow(msgspec.Struct, frozen=True):
    name: str
    owner: str | None
    visibility: Visibility
    shared_with: frozenset[str]


async def list_access(session: DatabaseSession, *, names: Collection[str] | None = None) -> dict[str, Access]:
    """Return the access of `names`, or of all tasks and models; public ones without an owner are left out."""
    wanted = None if names is None else list(names)
    rows = await session.fetch(_AccessRow, _LIST_ACCESS, wanted)
    return {r.name: Access(owner=r.owner, visibility=r.visibility, shared_with=r.shared_with) for r in rows}


async def get_access(session: DatabaseSession, name: str) -> Access:
    """Return the access of a task or model."""
    return (await list_access(session, names=[name])).get(name, PUBLIC)


async def begin_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Set the access of a task or model that is registered in the same transaction, unless it is set already."""
    if access != PUBLIC:
        await session.execute(_BEGIN_ACCESS, name, *_columns(access))


async def set_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Change the access of a task or model.

    Raises:
        StoreConflict: no task or model has this name.
    """
    if await session.fetch_value(str, _SET_ACCESS, name, *_columns(access)) is None:
        raise StoreConflict(f"there is no task or model {name}")


async def lock_access(session: DatabaseSession) -> None:
    """Lock the table of access against changes by others until the transaction ends."""
    await session.execute(_LOCK_ACCESS)


def _columns(access: Access) -> tuple[object, ...]:
    return access.owner, access.visibility, sorted(access.shared_with)
