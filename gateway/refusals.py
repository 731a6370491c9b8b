"""Refusals shared by HTTP and gRPC: missing roles, and headers of error responses."""

from math import ceil
from typing import Final

from schemas.errors import Forbidden, Overloaded, QueryError, QuotaExceeded, Unauthenticated
from schemas.principal import Principal, QuotaUse, Role

_CHALLENGE: Final = 'Bearer realm="infaas"'
"""Authentication challenge for callers without credentials."""
RETRY_AFTER_S: Final = 1.0
"""Default retry time of a refusal."""


def require_role(principal: Principal, role: Role) -> None:
    """Check that a principal has a role.

    Raises:
        Forbidden: the principal does not have the role.
    """
    if not principal.has(role):
        own = ", ".join(sorted(principal.roles)) or "none"
        raise Forbidden(f"this takes the role {role}, and yours is {own}: ask an administrator for a key with it")


def refusal_headers(error: QueryError) -> dict[str, str]:
    """Return the headers for an error, except Retry-After."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": _CHALLENGE}
    if isinstance(error, QuotaExceeded) and error.use is not None:
        return _rate_limit(error.use)
    return {}


def retry_after_s_of(error: QueryError) -> float | None:
    """Return the seconds after which a retry may succeed; None: a retry will not help."""
    if error.retry_after_s is None and isinstance(error, Overloaded | QuotaExceeded):
        return RETRY_AFTER_S
    return error.retry_after_s


def _rate_limit(use: QuotaUse) -> dict[str, str]:
    """Return the remaining quota as RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
    of = 'qu="concurrent-requests"' if use.window_s is None else f"w={use.window_s}"
    return {
        "RateLimit-Policy": f'"{use.policy}";q={use.most};{of}',
        "RateLimit": f'"{use.policy}";r={use.left};t={ceil(use.reset_s)}',
    }
