"""Tenant endpoints of the admin API: tenants that send queries over Kafka; for administrators only.

Every request is idempotent. A tenant is created once, and its password is set to the value that the caller has chosen.
A signing key is renewed only if the request names the present key.
"""

from typing import Annotated, Final

import msgspec

from schemas.defaults import PARTITIONS
from schemas.endpoints.endpoint import Empty, Endpoint
from schemas.principal import Role
from schemas.rows.tenants import Tenant

MOST_PARTITIONS: Final = 64
"""Maximum number of partitions of a new tenant's topics. Topics gain partitions later as the tenant's load grows."""
_Partitions = Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTITIONS)]
_Wait = Annotated[float, msgspec.Meta(ge=0, le=300)]
_REMOVAL_S: Final = 900.0


class TenantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to create a tenant."""

    tenant: str
    kafka_user: Annotated[str, msgspec.Meta(max_length=255)] = ""
    """Kafka user that alone may write to the tenant's topics; empty: ACLs are managed elsewhere."""
    partitions: _Partitions = PARTITIONS
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    """New SCRAM-SHA-512 password of that user; null: the password does not change."""

    def __repr__(self) -> str:
        return f"TenantRequest({self.tenant})"  # no log may contain the password


class NamedTenant(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one tenant."""

    tenant: str


class TenantEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Tenant with its topics and ACLs in Kafka."""

    tenant: Tenant
    asks_in: list[str]
    """Topics of its queries: the online one, then the offline one."""
    answered_in: str
    """Topic of its results if a query names no reply topic."""
    prefix: str
    """Prefix of the topics and consumer groups that the tenant may create and use freely."""
    acls: list[str]
    """Commands of Kafka's ACL tool that grant its user (`USER` if none is known) exactly these permissions."""


class SigningKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a tenant's signing key."""

    tenant: str
    replaces: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Number of the key to revoke and replace. Null, or not the present number: no key is replaced."""


class ShownSigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """Key with which a tenant signs its queries."""

    tenant: str
    number: int
    key: str

    def __repr__(self) -> str:
        return f"ShownSigningKey({self.tenant}.{self.number})"  # no log may contain the key


class TenantRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """Request to remove a tenant."""

    tenant: str
    drain_timeout_s: _Wait = 120.0
    """Timeout in seconds for the selectors to answer the tenant's queries."""
    results_grace_s: _Wait = 10.0
    """Seconds for which the tenant's results stay readable before they are deleted."""


CREATE_TENANT: Final = Endpoint(
    name="tenants.create",
    method="PUT",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=TenantRequest,
    result=TenantEndpoints,
    summary="Create a tenant's topics, and permit its Kafka user to use them. Idempotent: adds missing parts.",
    deadline_s=120.0,
    grants_access=True,
)
LIST_TENANTS: Final = Endpoint(
    name="tenants.list",
    method="GET",
    path="/v1/tenants",
    role=Role.ADMIN,
    request=Empty,
    result=list[Tenant],
    summary="List tenants with topics of their own.",
)
SHOW_TENANT: Final = Endpoint(
    name="tenants.show",
    method="GET",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=NamedTenant,
    result=TenantEndpoints,
    summary="Show a tenant, its topics, and the ACLs that they need.",
)
SIGNING_KEY: Final = Endpoint(
    name="tenants.signing-key",
    method="POST",
    path="/v1/tenants/{tenant}/signing-key",
    role=Role.ADMIN,
    request=SigningKeyRequest,
    result=ShownSigningKey,
    summary="Show the key with which a tenant signs its queries, or replace the given one.",
    grants_access=True,
)
REMOVE_TENANT: Final = Endpoint(
    name="tenants.remove",
    method="DELETE",
    path="/v1/tenants/{tenant}",
    role=Role.ADMIN,
    request=TenantRemoval,
    result=NamedTenant,
    summary=(
        "Remove a tenant: answer its queries, then delete its topics, ACLs and password. A repeated request "
        "continues the removal."
    ),
    deadline_s=_REMOVAL_S,
)
TENANTS: Final = (CREATE_TENANT, LIST_TENANTS, SHOW_TENANT, SIGNING_KEY, REMOVE_TENANT)
