"""API keys over the admin API: made, listed, limited, revoked; for administrators alone.

A key's id is chosen by whoever has it made, and is no secret: what is sent twice, by a client that did not hear the
answer or by somebody who recorded it, makes no second key. The secret is in the one answer that tells of it.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Count, Endpoint, Moment
from schemas.principal import Role

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$", max_length=12)]
_Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Waiting = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Tasks = Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is to be."""

    id: _Id
    """12 hexadecimal digits, at random."""
    certificate: str | None = None
    """A name in the certificate that its holder shows in the place of a key; absent: a key."""
    tenant: str | None = None
    """Whom its queries are counted for; only an administrator's needs none."""
    role: Role = Role.QUERY
    tasks: _Tasks | None = None
    """Tasks that it may ask; absent: all."""
    per_second: _Rate | None = None
    """Most queries a second, of each gateway."""
    concurrent: _Waiting | None = None
    """Most queries that wait at once, of each gateway."""
    expires_at: Moment | None = None
    """When it ends; absent: never."""
    note: str = ""
    """What it is for: one line."""


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key."""

    id: str
    certificate: str | None
    """Name of the certificate that is shown in the place of a key; null: a key is."""
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


class MadeKey(KnownKey, frozen=True, kw_only=True):
    """A key that was made, and its secret, which is told this once."""

    key: str | None
    """Null where a certificate is shown in its place."""

    def __repr__(self) -> str:
        return f"MadeKey({self.id})"  # so that no log of a value tells it


class KeysRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys are listed."""

    tenant: str | None = None
    """Only of this tenant."""


class KeyQuotaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may ask from now on; what is absent is not limited."""

    id: _Id
    per_second: _Rate | None = None
    concurrent: _Waiting | None = None


class RevokeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is to count no longer."""

    id: _Id


class RevokedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that counts no longer."""

    id: str
    admins_left: Count
    """Number of administrators' keys that count still."""
    warning: str = ""
    """What is to be known of that."""


CREATE_KEY: Final = Endpoint(
    name="keys.create",
    method="PUT",
    path="/v1/keys/{id}",
    role=Role.ADMIN,
    request=KeyRequest,
    result=MadeKey,
    summary="Make a key under an id of your choice; its secret is in this answer alone. Or have a certificate stand "
    "for somebody. 409 if there is one.",
    lets_in=True,
)
LIST_KEYS: Final = Endpoint(
    name="keys.list",
    method="GET",
    path="/v1/keys",
    role=Role.ADMIN,
    request=KeysRequest,
    result=list[KnownKey],
    summary="Keys, revoked ones, too, without their secrets; the latest last.",
)
LIMIT_KEY: Final = Endpoint(
    name="keys.quota",
    method="PUT",
    path="/v1/keys/{id}/quota",
    role=Role.ADMIN,
    request=KeyQuotaRequest,
    result=KnownKey,
    summary="Set what a key may ask, instead of what it might before.",
)
REVOKE_KEY: Final = Endpoint(
    name="keys.revoke",
    method="DELETE",
    path="/v1/keys/{id}",
    role=Role.ADMIN,
    request=RevokeRequest,
    result=RevokedKey,
    summary="End a key: within a second no gateway lets it in. 404 if it has ended, or never was.",
)
KEYS: Final = (CREATE_KEY, LIST_KEYS, LIMIT_KEY, REVOKE_KEY)
