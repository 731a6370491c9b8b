"""Keys, tenants and the audit log, for administrators."""

import secrets
from collections.abc import Iterable
from typing import Any, Final

from admin.audit import list_all as list_acts
from admin.keys import CreatedKey, KeyInfo, RevokedKey, create, limit, revoke
from admin.keys import list_all as list_keys
from admin.tenants import NamedTenant, TenantEndpoints
from admin.tenants import create as create_tenant
from admin.tenants import list_all as list_tenants
from admin.tenants import remove as remove_tenant
from admin.tenants import show as show_tenant
from gateway.console.page import Act, ActOutcome, Fields, Page, paged
from gateway.console.visit import Visit
from process.security.api_keys import ID_BYTES
from schemas.access import Role
from schemas.rows.audit import AuditVerb

_LISTED: Final = 25


async def _load_keys(visit: Visit) -> dict[str, Any]:
    found = (await visit.call(list_keys))[::-1]
    return {**paged(visit, "keys", found, 15), "roles": [one.value for one in Role]}


async def _load_tenants(visit: Visit) -> dict[str, Any]:
    return paged(visit, "tenants", await visit.call(list_tenants))


async def _load_tenant(visit: Visit) -> dict[str, Any]:
    return {"found": await visit.call(show_tenant, tenant=visit.request.match_info["tenant"])}


async def _load_audit(visit: Visit) -> dict[str, Any]:
    asked = {name: visit.text(name) for name in ("actor", "verb", "subject")}
    rows = await visit.call(list_acts, latest=_LISTED, **{name: text or None for name, text in asked.items()})
    return {"rows": rows[::-1], "asked": asked, "verbs": [one.value for one in AuditVerb]}


def with_new_id(fields: Fields) -> Iterable[tuple[str, str]]:
    """Add the id of a new key, and make a time of the day of its expiry."""
    for name, text in fields:
        yield name, f"{text}T00:00:00Z" if name == "expires_at" and text else text
    yield "id", secrets.token_hex(ID_BYTES)


def _tell_created(made: CreatedKey) -> ActOutcome:
    if made.key is None:
        return ActOutcome(f"Accepted the certificate {made.certificate} as {made.id}.")
    return ActOutcome(f"Created key {made.id}. It is shown only now: keep it.", secret=made.key)


def _tell_limited(key: KeyInfo) -> ActOutcome:
    rate = "any rate" if key.per_second is None else f"at most {key.per_second:g} queries a second"
    waiting = "any number at once" if key.concurrent is None else f"at most {key.concurrent} at once"
    return ActOutcome(f"Key {key.id}: {rate}, {waiting}.")


def _tell_revoked(done: RevokedKey) -> ActOutcome:
    return ActOutcome(f"Revoked key {done.id}. {done.warning}".strip())


def _tell_tenant(made: TenantEndpoints) -> ActOutcome:
    name = made.tenant.name
    return ActOutcome(f"Created tenant {name}.", link=f"/console/tenants/{name}", link_text="Show its topics")


def _tell_removed(done: NamedTenant) -> ActOutcome:
    return ActOutcome(f"Removed tenant {done.tenant}.", link="/console/tenants", link_text="Show the tenants")


def _page(path: str, title: str, template: str, load: Any, live: tuple[str, ...] = (), menu: str = "") -> Page:
    return Page(path, title, template, load, live, Role.ADMIN, menu)


PAGES: Final = (
    _page("/console/keys", "Keys", "keys.html", _load_keys, ("keys",), "Keys"),
    _page("/console/tenants", "Tenants", "tenants.html", _load_tenants, ("tenants",), "Tenants"),
    _page("/console/tenants/{tenant}", "Tenant", "tenant.html", _load_tenant),
    _page("/console/audit", "Audit log", "audit.html", _load_audit, ("acts",), "Audit"),
)
ACTS: Final = (
    Act("/console/keys/create", create, _tell_created, with_new_id),
    Act("/console/keys/limit", limit, _tell_limited),
    Act("/console/keys/revoke", revoke, _tell_revoked),
    Act("/console/tenants/create", create_tenant, _tell_tenant),
    Act("/console/tenants/remove", remove_tenant, _tell_removed),
)
