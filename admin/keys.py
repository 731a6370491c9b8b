"""API keys: create, list, limit, revoke.

On the command line, access to Postgres suffices to create any key. A key can create only keys with no more rights than
its own: the same tasks or fewer, no higher rate, no later expiry. Quotas are counted by key, so several new keys could
together exceed the quota of their creator. Therefore only administrators can create keys.
"""

import os
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from admin.api import Count, RequestContext, Timestamp, endpoint, param
from process.security.api_keys import SECRET_BYTES, make_key, what_exceeds
from schemas.access import ANYONE, Role
from schemas.errors import Forbidden, InvalidRequest, NotFound
from schemas.names import check_name
from schemas.rows.audit import AuditVerb
from schemas.rows.tenants import ApiKeyRow
from store.api_keys import admin_keys_left, list_keys, put_key, revoke_keys, set_quota
from store.audit import audited_transaction
from store.errors import StoreConflict
from store.pool import DatabaseSession

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$", max_length=12)]
_KeyId = Annotated[_Id, param("Id of a key, not the secret.", metavar="ID")]
_Rate = Annotated[
    Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None,
    param("Maximum rate of queries per second at each gateway."),
]
_Waiting = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None,
    param("Maximum number of concurrent queries at each gateway."),
]
_Tasks = Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to create a key, or to accept a client certificate."""

    id: _Id
    """12 random hexadecimal digits."""
    tenant: Annotated[str | None, param("Tenant of its queries; optional for admins only.")] = None
    certificate: Annotated[
        str | None,
        param("Accept a client certificate with this name (a URI, DNS or common name) instead of a key."),
    ] = None
    role: Annotated[
        Role,
        param("query: send queries. publish: also change its tenant's objects. admin: all, for all tenants."),
    ] = Role.QUERY
    tasks: Annotated[_Tasks | None, param("Tasks that it may query; default: all.", "--task")] = None
    per_second: _Rate = None
    concurrent: _Waiting = None
    expires_at: Annotated[
        Timestamp | None, param("End of its validity. Default: it does not expire.", "--expires", ahead=True)
    ] = None
    note: Annotated[str, param("Purpose of the key, in one line.")] = ""


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

    tenant: Annotated[str | None, param("Keys of this tenant.")] = None


class KeyQuotaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """New quota of a key; a field that is absent sets no limit."""

    id: _KeyId
    per_second: _Rate = None
    concurrent: _Waiting = None


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


_MAX_NOTE: Final = 200
_MAX_NAME: Final = 500
_NO_ADMIN: Final = (
    "no administrator's key is left: create one by `infaas keys create --role admin` where Postgres can be reached"
)


@endpoint("keys.create", "PUT", "/v1/keys/{id}", Role.ADMIN, grants_access=True)
async def create(context: RequestContext, request: KeyRequest) -> CreatedKey:
    """Create a key with a chosen id, or bind a certificate to a principal.

    Only this response contains the key's secret. 409 if it exists.

    Raises:
        InvalidRequest: a field is invalid.
        Forbidden: the key would have more rights than the key that creates it.
        OperatorError: a key of this id or certificate exists.
    """
    key = make_key(bytes.fromhex(request.id) + os.urandom(SECRET_BYTES)) if request.certificate is None else None
    row = ApiKeyRow(
        id=request.id,
        secret_hash=None if key is None else key.hash(),
        certificate=_certificate(request.certificate),
        tenant=_tenant(request.tenant, request.role),
        roles=[request.role],
        tasks=None if request.tasks is None else [check_name("task", name) for name in request.tasks],
        per_second=request.per_second,
        concurrent=request.concurrent,
        note=_note(request.note),
        created_by=context.actor,
        expires_at=_ahead(request.expires_at),
    )
    said = msgspec.to_builtins(known(row))
    said = {name: value for name, value in said.items() if value is not None and name not in ("id", "created_by")}
    async with audited_transaction(context.pool, context.act(AuditVerb.CREATE_KEY, row.id, **said)) as session:
        await _check_within(session, context, row)
        try:
            row = await put_key(session, row)
        except StoreConflict:
            raise StoreConflict(_taken(row)) from None
    return CreatedKey(key=None if key is None else str(key), **_fields(row))


@endpoint("keys.list", "GET", "/v1/keys", Role.ADMIN)
async def list_all(context: RequestContext, request: KeysRequest) -> list[KeyInfo]:
    """List keys, including revoked ones, without their secrets; the latest last."""
    return [known(row) for row in await list_keys(context.pool, tenant=request.tenant)]


@endpoint("keys.quota", "PUT", "/v1/keys/{id}/quota", Role.ADMIN)
async def limit(context: RequestContext, request: KeyQuotaRequest) -> KeyInfo:
    """Set the quota of a key at all gateways, within a second; omitted limits are removed.

    Raises:
        NotFound: the key does not exist, or is revoked.
        Forbidden: the quota would exceed that of the calling key.
    """
    said = {"per_second": request.per_second, "concurrent": request.concurrent}
    async with audited_transaction(context.pool, context.act(AuditVerb.SET_QUOTA, request.id, **said)) as session:
        row = await set_quota(session, request.id, request.per_second, request.concurrent)
        if row is None:
            raise NotFound(_absent(request.id))
        await _check_within(session, context, row)
    return known(row)


@endpoint("keys.revoke", "DELETE", "/v1/keys/{id}", Role.ADMIN)
async def revoke(context: RequestContext, request: RevokeRequest) -> RevokedKey:
    """Revoke a key: gateways refuse it within a second. 404 if it was revoked before or never existed.

    Raises:
        NotFound: the key does not exist, or is revoked already.
    """
    async with audited_transaction(context.pool, context.act(AuditVerb.REVOKE_KEY, request.id)) as session:
        if not await revoke_keys(session, [request.id]):
            raise NotFound(_absent(request.id))
        left = await admin_keys_left(session)
    return RevokedKey(id=request.id, admins_left=left, warning="" if left else _NO_ADMIN)


def known(row: ApiKeyRow) -> KeyInfo:
    """Return the public fields of a key."""
    return KeyInfo(**_fields(row))


def _fields(row: ApiKeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyInfo.__struct_fields__}


async def _check_within(session: DatabaseSession, context: RequestContext, row: ApiKeyRow) -> None:
    """Check that a key has no more rights than the calling key has now."""
    if context.principal == ANYONE:
        return
    own = await list_keys(session, ids=[context.principal.name])
    if own and own[0].revoked_at is not None:  # a gateway may not have received the revocation yet
        raise Forbidden("this key was revoked")
    excess = what_exceeds(row, context.principal, own[0].expires_at if own else None)
    if excess:
        raise Forbidden(f"a key cannot create a key with more rights: {excess}")


def _absent(key_id: str) -> str:
    return f"key {key_id} is already revoked or unknown"


def _taken(row: ApiKeyRow) -> str:
    if row.certificate is not None:
        return f"{row.certificate} is bound to a principal already, or a key {row.id} exists: revoke it first"
    return (
        f"key {row.id} exists, and its secret was shown only at its creation: if the secret is lost, revoke the key, "
        "and create one with another id"
    )


def _certificate(name: str | None) -> str | None:
    """Check a name in a certificate, and return it."""
    if name is not None and (not name.isprintable() or name.strip() != name or not 0 < len(name) <= _MAX_NAME):
        raise InvalidRequest(
            f"a certificate's name must be a URI, DNS name or common name in it, of at most {_MAX_NAME} characters"
        )
    return name


def _tenant(tenant: str | None, role: Role) -> str | None:
    if tenant is not None:
        return check_name("tenant", tenant)
    if role is not Role.ADMIN:
        raise InvalidRequest(f"a key with the role {role} needs a tenant (--tenant)")
    return None


def _note(note: str) -> str:
    if len(note) > _MAX_NOTE or not note.isprintable():
        raise InvalidRequest(f"a note must be one line of at most {_MAX_NOTE} characters")
    return note


def _ahead(expires_at: datetime | None) -> datetime | None:
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidRequest(f"the key's expiry, {expires_at.isoformat(timespec='seconds')}, has passed")
    return expires_at


KEYS: Final = (create, list_all, limit, revoke)
