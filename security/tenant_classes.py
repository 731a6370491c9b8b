"""Tenants that may use the same are one class: pure.

Whatever depends on who asks (candidates, names, load) is kept by class and not by tenant: most tenants are named
nowhere, and are the class of strangers, who use what is public. A class is called by one of its tenants, so another
process that knows the same catalog, or nearly, means the same by it.
"""

from collections import defaultdict
from typing import Final

from schemas.access import EVERY_TENANT, Users

STRANGERS: Final = None
"""The class of those who may use only what everybody may."""


class TenantClasses:
    """Classes of tenants, by what each may use of that which not everybody may."""

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
        """The class of a tenant, whatever it is called: one look."""
        return self._of.get(tenant, STRANGERS)

    def usable(self, tenant_class: str | None) -> frozenset[str]:
        """Names of what a class may use beyond what everybody may."""
        return self._usable[tenant_class]

    def may_use(self, tenant_class: str | None, name: str) -> bool:
        """Whether a class may use the task or architecture of this name."""
        return name not in self._users or name in self._usable[tenant_class]
