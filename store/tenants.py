"""Tenants that send queries over Kafka to topics of their own. A change notifies selectors."""

from collections.abc import Collection
from typing import Final

from schemas.rows.tenants import Tenant
from store.errors import StoreConflict
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("tenants")
_PUT_TENANT: Final = _queries["put_tenant"]
_LIST_TENANTS: Final = _queries["list_tenants"]
_GROW_TENANT: Final = _queries["grow_tenant"]
_RENEW_KEY: Final = _queries["renew_key"]
_MARK_TENANT: Final = _queries["mark_tenant"]
_DELETE_TENANT: Final = _queries["delete_tenant"]
_CLAIM_PASSWORD: Final = _queries["claim_password"]
_IS_PASSWORD_OURS: Final = _queries["is_password_ours"]
_DROP_PASSWORD: Final = _queries["drop_password"]


async def put_tenant(session: DatabaseSession, tenant: Tenant) -> None:
    """Create the tenant, or change its Kafka user and increase its partitions.

    Raises:
        StoreConflict: it is being removed.
    """
    row = (tenant.name, tenant.partitions, tenant.kafka_user)
    if await session.fetch_value(str, _PUT_TENANT, *row) is None:
        raise being_removed(tenant.name)


def being_removed(name: str) -> StoreConflict:
    """Return the error for creating a tenant that is being removed."""
    return StoreConflict(
        f"tenant {name} is being removed: complete it by `infaas tenants remove`, then create it again"
    )


async def list_tenants(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Tenant]:
    """List all tenants, or those of `names`, sorted by name."""
    return await session.fetch(Tenant, _LIST_TENANTS, names)


async def get_tenant(session: DatabaseSession, name: str) -> Tenant | None:
    """Return the tenant of this name, or None."""
    return await session.fetch_one(Tenant, _LIST_TENANTS, [name])


async def grow_tenant(session: DatabaseSession, name: str, partitions: int) -> None:
    """Store a larger number of partitions of the tenant's topics; a smaller number is ignored."""
    await session.execute(_GROW_TENANT, name, partitions)


async def renew_key(session: DatabaseSession, name: str, *, replaces: int | None = None) -> int | None:
    """Return the number of the tenant's signing key; None: there is no such tenant.

    If the present number is `replaces`, or the tenant has no key, it gets a new number, and the previous key is
    revoked.
    """
    return await session.fetch_value(int, _RENEW_KEY, name, replaces)


async def mark_tenant(session: DatabaseSession, name: str) -> None:
    """Mark the tenant for removal."""
    await session.execute(_MARK_TENANT, name)


async def delete_tenant(session: DatabaseSession, name: str) -> None:
    """Delete the tenant."""
    await session.execute(_DELETE_TENANT, name)


async def claim_password(session: DatabaseSession, kafka_user: str) -> None:
    """Record that this system manages the password of a Kafka user."""
    await session.execute(_CLAIM_PASSWORD, kafka_user)


async def is_password_ours(session: DatabaseSession, kafka_user: str) -> bool:
    """Return true if this system manages the password of a Kafka user."""
    return bool(await session.fetch_value(bool, _IS_PASSWORD_OURS, kafka_user))


async def drop_password(session: DatabaseSession, kafka_user: str) -> None:
    """Record that this system no longer manages the password of a Kafka user."""
    await session.execute(_DROP_PASSWORD, kafka_user)
