"""Whose a task or a model is, and who may use it: a row of the table `access`, and what travels of it.

What has no row is public and nobody's. A model's row is of all its versions.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

EVERY_TENANT: Final = "*"
"""Who may use whatever any tenant may: the tenant of administrators. No tenant can be called so."""

Users: TypeAlias = Mapping[str, frozenset[str]]
"""Tenants that may use a task or an architecture, by its name; what is not in here, everybody may."""


class Visibility(StrEnum):
    """Who may use something beside its owner; to all others it does not exist."""

    PRIVATE = "private"
    SHARED = "shared"
    PUBLIC = "public"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Whose something is, and who may use it."""

    owner: str | None = None
    """Tenant that it belongs to, which may use it however few others may, and with the role *publish* change it; None:
    nobody's, which administrators alone change."""
    visibility: Visibility = Visibility.PUBLIC
    shared_with: frozenset[str] = frozenset()
    """Tenants that may use it as well where it is shared, else none."""

    def __str__(self) -> str:
        """Say it as people do: `private to acme`."""
        if self.visibility is Visibility.PUBLIC:
            return "public" if self.owner is None else f"public, of {self.owner}"
        shared = f", shared with {', '.join(sorted(self.shared_with))}" if self.shared_with else ""
        return f"private to {self.owner or 'administrators'}{shared}"


PUBLIC: Final = Access()
