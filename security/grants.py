"""Limits of keys that a principal creates: such a key has no more rights than its creator. Pure."""

from datetime import datetime

from schemas.principal import Principal
from schemas.rows.api_keys import ApiKeyRow


def what_exceeds(made: ApiKeyRow, maker: Principal, ends: datetime | None) -> str:
    """Return the first right of the new key that exceeds its creator's rights; empty if there is none.

    `ends` is the expiry of the creator's own key, None if it never expires.
    """
    if not all(maker.has(role) for role in made.roles):
        return "its role is higher"
    if maker.tasks is not None and (made.tasks is None or not maker.tasks.issuperset(made.tasks)):
        return "it may query other tasks"
    if ends is not None and (made.expires_at is None or made.expires_at > ends):
        return f"it would expire after {ends.isoformat(timespec='seconds')}"
    quota = maker.quota
    if quota is not None and (_more(made.per_second, quota.per_second) or _more(made.concurrent, quota.concurrent)):
        return "its quota is larger"
    return ""


def _more(limit: float | None, most: float | None) -> bool:
    return most is not None and (limit is None or limit > most)
