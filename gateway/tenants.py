"""The tenant that a request is asked as: by it everything is decided that depends on who asks."""

from collections.abc import Mapping

from schemas import headers as h
from schemas.access import EVERY_TENANT
from schemas.errors import InvalidRequest
from schemas.principal import ANYONE, Principal
from security.access import tenant_of


def tenant_asking(principal: Principal, headers: Mapping[str, str]) -> str | None:
    """The tenant of who asks; while everybody is anyone, the one that a request says it is of.

    Names of headers are in lower case, or their case is ignored.
    """
    if principal is not ANYONE:
        return tenant_of(principal)
    said = headers.get(h.TENANT) or None
    return None if said == EVERY_TENANT else said


def check_said_tenant(said: str | None) -> None:
    """Check what a request says of its tenant, where it is believed: nobody becomes an administrator by saying so.

    Raises:
        InvalidRequest: it is what administrators ask as.
    """
    if said == EVERY_TENANT:
        raise InvalidRequest(f"header {h.TENANT} is not a name: {said!r}")
