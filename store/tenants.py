"""Tenants with topics of their own, and the owners and visibility of tasks and models (see `schemas.access`).

A change is one row and notifies `store.shared_connection.REGISTRY`, so gateways and selectors apply it within
milliseconds.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from schemas.access import PUBLIC, Access, Visibility
from schemas.rows.tenants import Tenant
from store.errors import StoreConflict
from store.pool import DatabaseSession, load_queries

_SQL: Final = load_queries("tenants")


async def put_tenant(session: DatabaseSession, tenant: Tenant) -> None:
    """Create the tenant, or change its Kafka user and increase its partitions.

    Raises:
        StoreConflict: it is being removed.
    """
    row = (tenant.name, tenant.partitions, tenant.kafka_user)
    if await session.fetch_value(str, _SQL["put_tenant"], *row) is None:
        raise being_removed(tenant.name)


def being_removed(name: str) -> StoreConflict:
    """Return the error for creating a tenant that is being removed."""
    return StoreConflict(
        f"tenant {name} is being removed: complete it by `infaas tenants remove`, then create it again"
    )


async def list_tenants(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Tenant]:
    """List all tenants, or those of `names`, sorted by name."""
    return await session.fetch(Tenant, _SQL["list_tenants"], names)


async def get_tenant(session: DatabaseSession, name: str) -> Tenant | None:
    """Return the tenant of this name, or None."""
    return await session.fetch_one(Tenant, _SQL["list_tenants"], [name])


async def grow_tenant(session: DatabaseSession, name: str, partitions: int) -> None:
    """Store a larger number of partitions of the tenant's topics; a smaller number is ignored."""
    await session.execute(_SQL["grow_tenant"], name, partitions)


async def renew_key(session: DatabaseSession, name: str, *, replaces: int | None = None) -> int | None:
    """Return the number of the tenant's signing key; None: there is no such tenant.

    If the present number is `replaces`, or the tenant has no key, it gets a new number, and the previous key is
    revoked.
    """
    return await session.fetch_value(int, _SQL["renew_key"], name, replaces)


async def mark_tenant(session: DatabaseSession, name: str) -> None:
    """Mark the tenant for removal."""
    await session.execute(_SQL["mark_tenant"], name)


async def delete_tenant(session: DatabaseSession, name: str) -> None:
    """Delete the tenant."""
    await session.execute(_SQL["delete_tenant"], name)


async def claim_password(session: DatabaseSession, kafka_user: str) -> None:
    """Record that this system manages the password of a Kafka user."""
    await session.execute(_SQL["claim_password"], kafka_user)


async def is_password_ours(session: DatabaseSession, kafka_user: str) -> bool:
    """Return true if this system manages the password of a Kafka user."""
    return bool(await session.fetch_value(bool, _SQL["is_password_ours"], kafka_user))


async def drop_password(session: DatabaseSession, kafka_user: str) -> None:
    """Record that this system no longer manages the password of a Kafka user."""
    await session.execute(_SQL["drop_password"], kafka_user)


class _AccessRow(msgspec.Struct, frozen=True):
    name: str
    owner: str | None
    visibility: Visibility
    shared_with: frozenset[str]


async def list_access(session: DatabaseSession, *, names: Collection[str] | None = None) -> dict[str, Access]:
    """Return the access of `names`, or of all tasks and models; public ones without an owner are left out."""
    wanted = None if names is None else list(names)
    rows = await session.fetch(_AccessRow, _SQL["list_access"], wanted)
    return {r.name: Access(owner=r.owner, visibility=r.visibility, shared_with=r.shared_with) for r in rows}


async def get_access(session: DatabaseSession, name: str) -> Access:
    """Return the access of a task or model."""
    return (await list_access(session, names=[name])).get(name, PUBLIC)


async def begin_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Set the access of a task or model that is registered in the same transaction, unless it is set already."""
    if access != PUBLIC:
        await session.execute(_SQL["begin_access"], name, *_columns(access))


async def set_access(session: DatabaseSession, name: str, access: Access) -> None:
    """Change the access of a task or model.

    Raises:
        StoreConflict: no task or model has this name.
    """
    if await session.fetch_value(str, _SQL["set_access"], name, *_columns(access)) is None:
        raise StoreConflict(f"there is no task or model {name}")


async def lock_access(session: DatabaseSession) -> None:
    """Lock the table of access against changes by others until the transaction ends."""
    await session.execute(_SQL["lock_access"])


def _columns(access: Access) -> tuple[object, ...]:
    return access.owner, access.visibility, sorted(access.shared_with)
