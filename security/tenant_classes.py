"""Classes of tenants that may use the same tasks and architectures: pure.

Candidates, names and load are kept by class instead of by tenant. Most tenants appear in no access list; they form the
class `STRANGERS`, which may use only public things. A class is named after one of its tenants, so processes with the
same or nearly the same catalog mean the same class by a name.
"""

from collections import defaultdict
from typing import Final

from schemas.access import EVERY_TENANT, Users

STRANGERS: Final = None
"""The class of tenants that may use public things only."""


class TenantClasses:
    """Classes of tenants, by the set of non-public names that each tenant may use."""

    __slots__ = ("_of", "_usable", "_users")

    def __init__(self, users: Users) -> None:
        usable = defaultdict[str, set[str]](set)
        for name, tenants in users.items():
            for tenant in (EVERY_TENANT, *tenants):
                usable[tenant].add(name)
        first: dict[frozenset[str], str | None] = {frozenset(): STRANGERS}
        self._users = users
        self._of: dict[str | None, str | None] = {
            tenant: first.setdefault(frozenset(usable[tenant]), tenant) for tenant in sorted(usable)
        }
        self._usable = {name: found for found, name in first.items()}

    def __len__(self) -> int:
        return len(self._usable)

    def of(self, tenant: str | None) -> str | None:
        """Return the class of a tenant, known or not, in one lookup."""
        return self._of.get(tenant, STRANGERS)

    def usable(self, tenant_class: str | None) -> frozenset[str]:
        """Return the non-public names that a class may use."""
        return self._usable[tenant_class]

    def may_use(self, tenant_class: str | None, name: str) -> bool:
        """Return true if a class may use the task or architecture of this name."""
        return name not in self._users or name in self._usable[tenant_class]
