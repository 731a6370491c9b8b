"""Tenants that ask over Kafka by a topic of their own. A change notifies, by which selectors know of it."""

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
    """Create the tenant, or give it another user of Kafka and more partitions.

    Raises:
        StoreConflict: it is being removed.
    """
    row = (tenant.name, tenant.partitions, tenant.kafka_user)
    if await session.fetch_value(str, _PUT_TENANT, *row) is None:
        raise being_removed(tenant.name)


def being_removed(name: str) -> StoreConflict:
    """Error of a tenant that is to be made, and is being removed."""
    return StoreConflict(f"tenant {name} is being removed: `infaas tenants remove` it, then create it anew")


async def list_tenants(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Tenant]:
    """List all tenants by name, or those of `names`."""
    return await session.fetch(Tenant, _LIST_TENANTS, names)


async def get_tenant(session: DatabaseSession, name: str) -> Tenant | None:
    """Read the tenant of this name, if it exists."""
    return await session.fetch_one(Tenant, _LIST_TENANTS, [name])


async def grow_tenant(session: DatabaseSession, name: str, partitions: int) -> None:
    """Note that the tenant's topics have so many partitions, unless they are known to have more."""
    await session.execute(_GROW_TENANT, name, partitions)


async def renew_key(session: DatabaseSession, name: str, *, replaces: int | None = None) -> int | None:
    """Number of the tenant's key, of another if the present one is that which it `replaces`, and void from now on.

    None: there is no such tenant.
    """
    return await session.fetch_value(int, _RENEW_KEY, name, replaces)


async def mark_tenant(session: DatabaseSession, name: str) -> None:
    """Note that the tenant is to go."""
    await session.execute(_MARK_TENANT, name)


async def delete_tenant(session: DatabaseSession, name: str) -> None:
    """Forget the tenant."""
    await session.execute(_DELETE_TENANT, name)


async def claim_password(session: DatabaseSession, kafka_user: str) -> None:
    """Note that the password of one of Kafka's users is ours to set."""
    await session.execute(_CLAIM_PASSWORD, kafka_user)


async def is_password_ours(session: DatabaseSession, kafka_user: str) -> bool:
    """Whether the password of one of Kafka's users is ours to set."""
    return bool(await session.fetch_value(bool, _IS_PASSWORD_OURS, kafka_user))


async def drop_password(session: DatabaseSession, kafka_user: str) -> None:
    """Note that one of Kafka's users has no password of ours any more."""
    await session.execute(_DROP_PASSWORD, kafka_user)
