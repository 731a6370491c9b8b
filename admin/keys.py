"""API keys: create, list, limit, revoke.

On the command line, access to Postgres suffices to create any key. A key can create only keys with no more rights than
its own: the same tasks or fewer, no higher rate, no later expiry. Quotas are counted by key, so several new keys could
together exceed the quota of their creator. Therefore only administrators can create keys.
"""

import os
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from admin.binding import bind
from admin.control import RequestContext
from schemas.endpoints.keys import (
    CREATE_KEY,
    LIMIT_KEY,
    LIST_KEYS,
    REVOKE_KEY,
    CreatedKey,
    KeyInfo,
    KeyQuotaRequest,
    KeyRequest,
    KeysRequest,
    RevokedKey,
    RevokeRequest,
)
from schemas.errors import Forbidden, InvalidRequest, NotFound
from schemas.names import check_name
from schemas.principal import ANYONE, Role
from schemas.rows.api_keys import ApiKeyRow
from schemas.rows.audit import AuditVerb
from security.api_keys import SECRET_BYTES, make_key
from security.grants import what_exceeds
from store.api_keys import admin_keys_left, list_keys, put_key, revoke_keys, set_quota
from store.audit import audited_transaction
from store.errors import StoreConflict
from store.pool import DatabaseSession

_MAX_NOTE: Final = 200
_MAX_NAME: Final = 500
_NO_ADMIN: Final = (
    "no administrator's key is left: create one by `infaas keys create --role admin` where Postgres can be reached"
)


async def create(control: RequestContext, request: KeyRequest) -> CreatedKey:
    """Create a key and return its secret, or bind a certificate, which has no secret, to a principal.

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
        created_by=control.actor,
        expires_at=_ahead(request.expires_at),
    )
    said = msgspec.to_builtins(known(row))
    said = {name: value for name, value in said.items() if value is not None and name not in ("id", "created_by")}
    async with audited_transaction(control.pool, control.act(AuditVerb.CREATE_KEY, row.id, **said)) as session:
        await _check_within(session, control, row)
        try:
            row = await put_key(session, row)
        except StoreConflict:
            raise StoreConflict(_taken(row)) from None
    return CreatedKey(key=None if key is None else str(key), **_fields(row))


async def list_all(control: RequestContext, request: KeysRequest) -> list[KeyInfo]:
    """List keys without their secrets, revoked keys included."""
    return [known(row) for row in await list_keys(control.pool, tenant=request.tenant)]


async def limit(control: RequestContext, request: KeyQuotaRequest) -> KeyInfo:
    """Set the quota of a key.

    Raises:
        NotFound: the key does not exist, or is revoked.
        Forbidden: the quota would exceed that of the calling key.
    """
    said = {"per_second": request.per_second, "concurrent": request.concurrent}
    async with audited_transaction(control.pool, control.act(AuditVerb.SET_QUOTA, request.id, **said)) as session:
        row = await set_quota(session, request.id, request.per_second, request.concurrent)
        if row is None:
            raise NotFound(_absent(request.id))
        await _check_within(session, control, row)
    return known(row)


async def revoke(control: RequestContext, request: RevokeRequest) -> RevokedKey:
    """Revoke a key, even the last administrator's: the command line can create another.

    Raises:
        NotFound: the key does not exist, or is revoked already.
    """
    async with audited_transaction(control.pool, control.act(AuditVerb.REVOKE_KEY, request.id)) as session:
        if not await revoke_keys(session, [request.id]):
            raise NotFound(_absent(request.id))
        left = await admin_keys_left(session)
    return RevokedKey(id=request.id, admins_left=left, warning="" if left else _NO_ADMIN)


def known(row: ApiKeyRow) -> KeyInfo:
    """Return the public fields of a key."""
    return KeyInfo(**_fields(row))


def _fields(row: ApiKeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyInfo.__struct_fields__}


async def _check_within(session: DatabaseSession, control: RequestContext, row: ApiKeyRow) -> None:
    """Check that a key has no more rights than the calling key has now."""
    if control.principal == ANYONE:
        return
    own = await list_keys(session, ids=[control.principal.name])
    if own and own[0].revoked_at is not None:  # a gateway may not have received the revocation yet
        raise Forbidden("this key was revoked")
    excess = what_exceeds(row, control.principal, own[0].expires_at if own else None)
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


BINDINGS: Final = (
    bind(CREATE_KEY, create),
    bind(LIST_KEYS, list_all),
    bind(LIMIT_KEY, limit),
    bind(REVOKE_KEY, revoke),
)
