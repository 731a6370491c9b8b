"""Tenants that ask over Kafka, over the admin API; for administrators alone.

All of it may be sent twice: a tenant is made once and its password set to the same, which whoever asks has chosen; a
signing key is renewed in the place of the one that is named, and of no other.
"""

from typing import Annotated, Final

import msgspec

from schemas.defaults import PARTITIONS
from schemas.endpoints.endpoint import Endpoint, Nothing
from schemas.principal import Role
from schemas.rows.tenants import Tenant

MOST_PARTITIONS: Final = 64
"""Of a tenant's topics when they are made; they grow as it asks more."""
_Partitions = Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTITIONS)]
_Wait = Annotated[float, msgspec.Meta(ge=0, le=300)]
_REMOVAL_S: Final = 900.0


class TenantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that is to be."""

    tenant: str
    kafka_user: Annotated[str, msgspec.Meta(max_length=255)] = ""
    """Kafka's user that alone may write its topics; absent: ACLs are somebody else's care."""
    partitions: _Partitions = PARTITIONS
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    """By which that user logs in from now on, with SCRAM-SHA-512; absent: it is left as it is."""

    def __repr__(self) -> str:
        return f"TenantRequest({self.tenant})"  # so that no log of a value tells the password


class NamedTenant(msgspec.Struct, frozen=True, kw_only=True):
    """Which tenant is meant."""

    tenant: str


class TenantDoors(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant, and what of Kafka is its own."""

    tenant: Tenant
    asks_in: list[str]
    """Topics of its queries, of those that may wait the second."""
    answered_in: str
    """Topic of its results where a query names no other."""
    prefix: str
    """What the names of topics and groups begin with that it may make and use as it likes."""
    acls: list[str]
    """Commands of Kafka's own tool that allow its user, or `USER`, just that."""


class SigningKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which key a tenant is to sign by."""

    tenant: str
    replaces: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Number of the key that becomes void; absent, or not the present one: none does."""


class ShownSigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key by which a tenant signs its queries."""

    tenant: str
    number: int
    key: str

    def __repr__(self) -> str:
        return f"ShownSigningKey({self.tenant}.{self.number})"  # so that no log of a value tells it


class TenantRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that is to go."""

    tenant: str
    drain_timeout_s: _Wait = 120.0
    """Longest wait for selectors to answer what it asked."""
    results_grace_s: _Wait = 10.0
    """Seconds for which its results can be read before they go."""


CREATE_TENANT: Final = Endpoint(
    name="tenants.create",
    method="PUT",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=TenantRequest,
    result=TenantDoors,
    summary="Make a tenant's topics, and let its Kafka user use them; again, it gets what it lacks.",
    deadline_s=120.0,
    lets_in=True,
)
LIST_TENANTS: Final = Endpoint(
    name="tenants.list",
    method="GET",
    path="/v1/tenants",
    role=Role.ADMIN,
    request=Nothing,
    result=list[Tenant],
    summary="Tenants with topics of their own.",
)
SHOW_TENANT: Final = Endpoint(
    name="tenants.show",
    method="GET",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=NamedTenant,
    result=TenantDoors,
    summary="A tenant, its topics, and the ACLs that they need.",
)
SIGNING_KEY: Final = Endpoint(
    name="tenants.signing-key",
    method="POST",
    path="/v1/tenants/{tenant}/signing-key",
    role=Role.ADMIN,
    request=SigningKeyRequest,
    result=ShownSigningKey,
    summary="Show the key by which a tenant signs its queries, renewed in the place of the one that is named.",
    lets_in=True,
)
REMOVE_TENANT: Final = Endpoint(
    name="tenants.remove",
    method="DELETE",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=TenantRemoval,
    result=NamedTenant,
    summary="Remove a tenant: what it asked is answered, then its topics, ACLs and password go. Again, it goes on.",
    deadline_s=_REMOVAL_S,
)
TENANTS: Final = (CREATE_TENANT, LIST_TENANTS, SHOW_TENANT, SIGNING_KEY, REMOVE_TENANT)
