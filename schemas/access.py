"""Access: authenticated callers with their roles and quotas, and ownership and visibility of tasks and models.

A task or model without a row in the table `access` is public and has no owner. A model's row applies to all its
versions. A principal is independent of the protocol and of the credential.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

EVERY_TENANT: Final = "*"
"""Tenant of administrators, who may use everything that any tenant may use. It is not a valid tenant name."""

Users: TypeAlias = Mapping[str, frozenset[str]]
"""Tenants that may use a task or an architecture, by its name. Every tenant may use a name that is absent."""


class Visibility(StrEnum):
    """Tenants that may use a task or model besides its owner. For all other tenants it does not exist."""

    PRIVATE = "private"
    SHARED = "shared"
    PUBLIC = "public"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Owner of a task or model, and the tenants that may use it."""

    owner: str | None = None
    """Tenant that owns it. The owner may always use it and, with the role *publish*, change it. None: it has no owner,
    and only administrators may change it."""
    visibility: Visibility = Visibility.PUBLIC
    shared_with: frozenset[str] = frozenset()
    """Tenants that may also use it if `visibility` is `shared`; empty otherwise."""

    def __str__(self) -> str:
        """Return the access as text for people, e.g. `private to acme`."""
        if self.visibility is Visibility.PUBLIC:
            return "public" if self.owner is None else f"public, of {self.owner}"
        shared = f", shared with {', '.join(sorted(self.shared_with))}" if self.shared_with else ""
        return f"private to {self.owner or 'administrators'}{shared}"


PUBLIC: Final = Access()


class Role(StrEnum):
    """Permissions of a caller. Each role includes the roles before it."""

    QUERY = "query"
    """Send queries, keep jobs, and see the tenant's own queries and jobs."""
    PUBLISH = "publish"
    """Change objects that the tenant owns: serving versions, access, and removal."""
    ADMIN = "admin"
    """Do everything, for all tenants."""


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}


class Quota(msgspec.Struct, frozen=True):
    """Limits of one API key, or of one subject of tokens, at each gateway."""

    per_second: float | None = None
    """Mean rate of queries per second. The burst size is the number of queries of one second, at least one. None: no
    limit."""
    concurrent: int | None = None
    """Number of unanswered queries. None: no limit."""


def quota_of(per_second: float | None, concurrent: int | None) -> Quota | None:
    """Return the quota with these limits; None if there is no limit."""
    return None if per_second is None and concurrent is None else Quota(per_second, concurrent)


class QuotaUse(NamedTuple):
    """Remaining part of a quota, and the time of its renewal."""

    policy: str
    """`rate` or `concurrency`."""
    most: int
    window_s: int | None
    """Window of the rate limit in seconds; None for a concurrency limit."""
    left: int
    reset_s: float
    """Seconds until more is available."""


class Principal(msgspec.Struct, frozen=True):
    """Authenticated caller."""

    name: str
    """Id of the key, or issuer and subject of the token; not secret."""
    tenant: str | None
    """Tenant to which the caller's queries are attributed and which owns the models that the caller registers."""
    roles: frozenset[Role]
    tasks: frozenset[str] | None = None
    """Tasks that the caller may query; None: all."""
    quota: Quota | None = None

    def has(self, role: Role) -> bool:
        """Return true if the caller has this role or a higher one."""
        return any(_RANKS[own] >= _RANKS[role] for own in self.roles)

    @property
    def owner(self) -> str | None:
        """Tenant whose jobs, files and batches the caller sees: empty for those without a tenant, None for all."""
        return None if self.has(Role.ADMIN) else self.tenant or ""

    def may_ask(self, task: str) -> bool:
        """Return true if the caller may query this task."""
        return self.tasks is None or task in self.tasks


ANYONE: Final = Principal(name="anyone", tenant=None, roles=frozenset(Role))
"""Principal of every caller while authentication is off."""
