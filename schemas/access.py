"""Ownership and visibility of tasks and models, as kept in the table `access` and as sent over the wire.

A task or model without a row is public and has no owner. A model's row applies to all its versions.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

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
