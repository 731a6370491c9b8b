"""API key endpoints of the admin API: create, list, limit and revoke; for administrators only.

The caller chooses the key's id, which is not secret. A creation request that is sent twice, by a client that lost the
answer or in a replay attack, therefore creates no second key. Only the answer to the creation contains the secret.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Count, Endpoint, Timestamp
from schemas.principal import Role

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$", max_length=12)]
_Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Waiting = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Tasks = Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to create a key, or to accept a client certificate."""

    id: _Id
    """12 random hexadecimal digits."""
    certificate: str | None = None
    """Subject name of a certificate that its holder presents instead of a key; null: a key is created."""
    tenant: str | None = None
    """Tenant to which its queries are attributed; only an administrator's key may have none."""
    role: Role = Role.QUERY
    tasks: _Tasks | None = None
    """Tasks that it may query; null: all."""
    per_second: _Rate | None = None
    """Maximum rate of queries per second at each gateway."""
    concurrent: _Waiting | None = None
    """Maximum number of unanswered queries at each gateway."""
    expires_at: Timestamp | None = None
    """End of its validity; null: it does not expire."""
    note: str = ""
    """Purpose of the key, in one line."""


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Key without its secret."""

    id: str
    certificate: str | None
    """Name of the certificate that is presented instead of a key; null: a key is."""
    tenant: str | None
    roles: list[Role]
    tasks: list[str] | None
    per_second: float | None
    concurrent: int | None
    note: str
    created_by: str
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class CreatedKey(KeyInfo, frozen=True, kw_only=True):
    """Created key with its secret, which no other answer contains."""

    key: str | None
    """Null if a certificate is presented instead of a key."""

    def __repr__(self) -> str:
        return f"CreatedKey({self.id})"  # no log may contain the secret


class KeysRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed keys."""

    tenant: str | None = None
    """Tenant whose keys are listed; null: all tenants."""


class KeyQuotaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """New quota of a key; a field that is absent sets no limit."""

    id: _Id
    per_second: _Rate | None = None
    concurrent: _Waiting | None = None


class RevokeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to revoke a key."""

    id: _Id


class RevokedKey(msgspec.Struct, frozen=True, kw_only=True):
    """Result of revoking a key."""

    id: str
    admins_left: Count
    """Number of administrators' keys that are still valid."""
    warning: str = ""
    """Warning, e.g. that no administrator's key is left; empty: none."""


CREATE_KEY: Final = Endpoint(
    name="keys.create",
    method="PUT",
    path="/v1/keys/{id}",
    role=Role.ADMIN,
    request=KeyRequest,
    result=CreatedKey,
    summary=(
        "Create a key with a chosen id; only this response contains its secret. Or bind a certificate to a "
        "principal. 409 if it exists."
    ),
    grants_access=True,
)
LIST_KEYS: Final = Endpoint(
    name="keys.list",
    method="GET",
    path="/v1/keys",
    role=Role.ADMIN,
    request=KeysRequest,
    result=list[KeyInfo],
    summary="List keys, including revoked ones, without their secrets; the latest last.",
)
LIMIT_KEY: Final = Endpoint(
    name="keys.quota",
    method="PUT",
    path="/v1/keys/{id}/quota",
    role=Role.ADMIN,
    request=KeyQuotaRequest,
    result=KeyInfo,
    summary="Replace the quota of a key.",
)
REVOKE_KEY: Final = Endpoint(
    name="keys.revoke",
    method="DELETE",
    path="/v1/keys/{id}",
    role=Role.ADMIN,
    request=RevokeRequest,
    result=RevokedKey,
    summary="Revoke a key: gateways refuse it within a second. 404 if it was revoked before or never existed.",
)
KEYS: Final = (CREATE_KEY, LIST_KEYS, LIMIT_KEY, REVOKE_KEY)
