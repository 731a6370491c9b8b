"""Who asks, and what they may do: what a key or a token stands for, whichever door it came through."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec


class Role(StrEnum):
    """What someone may do. Each includes those before it."""

    QUERY = "query"
    """Ask queries and keep jobs, and see one's own."""
    PUBLISH = "publish"
    """Change what one's tenant owns: which version answers, who may use it, and whether it stays."""
    ADMIN = "admin"
    """Everything, of all tenants."""


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}


class Quota(msgspec.Struct, frozen=True):
    """The most that one key, or one subject of tokens, may ask of a gateway."""

    per_second: float | None = None
    """Queries a second, on average; as many may come at once as are allowed in a second, but at least one. None: any
    number."""
    concurrent: int | None = None
    """Queries that wait for their answer at once. None: any number."""


def quota_of(per_second: float | None, concurrent: int | None) -> Quota | None:
    """The quota that these limits are; None where there is none of them."""
    return None if per_second is None and concurrent is None else Quota(per_second, concurrent)


class QuotaUse(NamedTuple):
    """How much of a quota is left, and when there is more."""

    policy: str
    """`rate` or `concurrency`."""
    most: int
    window_s: int | None
    """Seconds in which so many may be asked; None where so many may wait at once."""
    left: int
    reset_s: float
    """Seconds until there is more."""


class Principal(msgspec.Struct, frozen=True):
    """Someone who has authenticated."""

    name: str
    """Id of the key, or issuer and subject of the token. No secret."""
    tenant: str | None
    """Whom the queries are counted for, and what is registered belongs to."""
    roles: frozenset[Role]
    tasks: frozenset[str] | None = None
    """Tasks that may be asked; None: all."""
    quota: Quota | None = None

    def has(self, role: Role) -> bool:
        """Whether they may do what this role, or a lower one, may."""
        return any(_RANKS[own] >= _RANKS[role] for own in self.roles)

    def may_ask(self, task: str) -> bool:
        """Whether they may query this task."""
        return self.tasks is None or task in self.tasks


ANYONE: Final = Principal(name="anyone", tenant=None, roles=frozenset(Role))
"""Who everybody is while authentication is off."""
