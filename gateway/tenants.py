"""The tenant that a request is asked as: by it everything is decided that depends on who asks."""

from collections.abc import Mapping

from schemas import headers as h
from schemas.principal import ANYONE, Principal
from security.access import tenant_of


def tenant_asking(principal: Principal, headers: Mapping[str, str]) -> str | None:
    """The tenant of who asks; while everybody is anyone, the one that a request says it is of.

    Names of headers are in lower case, or their case is ignored.
    """
    return headers.get(h.TENANT) or None if principal is ANYONE else tenant_of(principal)
