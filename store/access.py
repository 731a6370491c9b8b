"""Whose tasks and models are, and who may use them; see `schemas.access`.

A change is one row, and notifies `store.change_listener.REGISTRY`: gateways and selectors hear of it within
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
    """The access of all tasks and models that have an owner or are not public, or of those of `names`."""
    wanted = None if names is None else list(names)
    rows = await session.fetch(_AccessRow, _LIST_ACCESS, wanted)
    return {r.name: Access(owner=r.owner, visibility=r.visibility, shared_with=r.shared_with) for r in rows}


async def get_access(session: DatabaseSession, name: str) -> Access:
    """The access of a task or a model."""
    return (await list_access(session, names=[name])).get(name, PUBLIC)


async def begin_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Say whose a task or model is that is registered in the same transaction, unless somebody has said so."""
    if access != PUBLIC:
        await session.execute(_BEGIN_ACCESS, name, *_columns(access))


async def set_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Change whose a task or model is.

    Raises:
        StoreConflict: there is none of this name.
    """
    if await session.fetch_value(str, _SET_ACCESS, name, *_columns(access)) is None:
        raise StoreConflict(f"there is no task or model {name}")


async def lock_access(session: DatabaseSession) -> None:
    """Let nobody else change who may use what until the transaction ends."""
    await session.execute(_LOCK_ACCESS)


def _columns(access: Access) -> tuple[object, ...]:
    return access.owner, access.visibility, sorted(access.shared_with)
