"""Refusals, alike over HTTP and gRPC: of who has not the role, and what is told of any beside its message."""

from math import ceil
from typing import Final

from schemas.errors import Forbidden, Overloaded, QueryError, QuotaExceeded, Unauthenticated
from schemas.principal import Principal, QuotaUse, Role

_CHALLENGE: Final = 'Bearer realm="infaas"'
"""What who has not said who they are is asked for."""
RETRY_AFTER_S: Final = 1.0
"""When to come back where nobody knows better."""


def require_role(principal: Principal, role: Role) -> None:
    """Check that someone has a role.

    Raises:
        Forbidden: they have not.
    """
    if not principal.has(role):
        own = ", ".join(sorted(principal.roles)) or "none"
        raise Forbidden(f"this takes the role {role}, and yours is {own}: ask an administrator for a key with it")


def refusal_headers(error: QueryError) -> dict[str, str]:
    """The headers that say what to do about an error, but for when to come back."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": _CHALLENGE}
    if isinstance(error, QuotaExceeded) and error.use is not None:
        return _rate_limit(error.use)
    return {}


def retry_after_s_of(error: QueryError) -> float | None:
    """Seconds after which asking again may help; None: it does not."""
    if error.retry_after_s is None and isinstance(error, Overloaded | QuotaExceeded):
        return RETRY_AFTER_S
    return error.retry_after_s


def _rate_limit(use: QuotaUse) -> dict[str, str]:
    """What is left of a quota, as the IETF's draft of RateLimit fields says (draft-ietf-httpapi-ratelimit-headers)."""
    of = 'qu="concurrent-requests"' if use.window_s is None else f"w={use.window_s}"
    return {
        "RateLimit-Policy": f'"{use.policy}";q={use.most};{of}',
        "RateLimit": f'"{use.policy}";r={use.left};t={ceil(use.reset_s)}',
    }
