"""Tenant of a request, on which access, quotas and fairness depend."""

from collections.abc import Mapping

from schemas import headers as h
from schemas.access import EVERY_TENANT
from schemas.errors import InvalidRequest
from schemas.principal import ANYONE, Principal
from security.access import tenant_of


def tenant_asking(principal: Principal, headers: Mapping[str, str]) -> str | None:
    """Return the tenant of the caller; without authentication, the tenant that the request names.

    Names of headers are in lower case or case-insensitive.
    """
    if principal is not ANYONE:
        return tenant_of(principal)
    said = headers.get(h.TENANT) or None
    return None if said == EVERY_TENANT else said


def check_said_tenant(said: str | None) -> None:
    """Check the tenant named in an unauthenticated request: it must not claim an administrator's access.

    Raises:
        InvalidRequest: the name is reserved for administrators.
    """
    if said == EVERY_TENANT:
        raise InvalidRequest(f"header {h.TENANT} is not a name: {said!r}")
