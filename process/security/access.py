"""Permission to use and to change a task or a model: pure functions.

    private                its owner
    shared                 its owner and the tenants it is shared with
    public                 everybody
    no owner, not public   administrators

A tenant may use an architecture if it may use both the architecture's model and its task. A composite (cascade or
chain) is open at most to the tenants that may use all of its parts. Administrators may use and change everything. While
authentication is off, there are no administrators: the tenant that a client names is believed, and a client that names
none may use public things only.

Candidates, names and load are kept by class of tenants with equal permissions instead of by tenant. Most tenants appear
in no access list; they form the class `STRANGERS`, which may use only public things. A class is named after one of its
tenants, so processes with the same or nearly the same catalog mean the same class by a name.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import reduce
from typing import Final, TypeVar

from schemas.access import ANYONE, EVERY_TENANT, PUBLIC, Access, Principal, Role, Users, Visibility
from schemas.errors import Forbidden, InvalidRequest
from schemas.names import check_name
from schemas.rows.catalog import Architecture, Task, Variant

Row = TypeVar("Row", Task, Architecture, Variant)
STRANGERS: Final = None
"""The class of tenants that may use public things only."""


def tenant_of(principal: Principal) -> str | None:
    """Return the tenant that access, shares and load are decided by for the principal's queries."""
    if principal.name != ANYONE.name and Role.ADMIN in principal.roles:  # runs for each query: faster than `has`
        return EVERY_TENANT
    return principal.tenant


def may_use(access: Access, principal: Principal) -> bool:
    """Return true if the principal may see and query an object. To others the object does not exist."""
    tenants = users_of(access)
    return tenants is None or includes(tenants, tenant_of(principal))


def may_change(access: Access, principal: Principal) -> bool:
    """Return true if the principal, who sees the object, may roll it out, roll it back, unregister and share it."""
    if principal.has(Role.ADMIN):
        return True
    return principal.has(Role.PUBLISH) and access.owner is not None and access.owner == principal.tenant


def check_answers(task: str, of_task: Access, access: Access, who: Principal) -> None:
    """Check that a tenant's model with this access may answer a task.

    A tenant may add a model to another tenant's task only if the tenant alone may use the model.

    Raises:
        Forbidden: the model would answer other tenants' queries of a task that the tenant may not change.
    """
    if may_change(of_task, who) or users_of(access) == frozenset({who.tenant}):
        return
    raise Forbidden(
        f"task {task} belongs to another tenant: only a private model (--private) may be added to another tenant's task"
    )


def users_of(access: Access) -> frozenset[str] | None:
    """Return the tenants that may use an object with this access; None if everybody may."""
    if access.visibility is Visibility.PUBLIC:
        return None
    return access.shared_with | ({access.owner} if access.owner is not None else set())


def includes(tenants: frozenset[str] | None, tenant: str | None) -> bool:
    """Return true if a set of tenants includes the tenant; None as the set means all tenants."""
    return tenants is None or tenant == EVERY_TENANT or tenant in tenants


def users_by_name(access: Mapping[str, Access], architectures: Iterable[Architecture]) -> Users:
    """Return the tenants that may use each task and architecture; public names are absent."""
    named = {name: tenants for name, one in access.items() if (tenants := users_of(one)) is not None}
    found = dict(named)
    for row in architectures:
        both = [tenants for name in (row.task, row.model) if (tenants := named.get(name)) is not None]
        if both:
            found[row.name] = frozenset.intersection(*both)
    return found


def used_as(row: Task | Architecture | Variant) -> str:
    """Return the name of the task or architecture whose access decides about a row."""
    return row.architecture if isinstance(row, Variant) else row.name


def usable_rows(rows: Mapping[str, Row], may_use: Callable[[str], bool]) -> dict[str, Row]:
    """Return the rows, by name, whose task or architecture passes `may_use`."""
    return {name: row for name, row in rows.items() if may_use(used_as(row))}


def common_access(parts: Iterable[Access]) -> Access:
    """Return the widest access that a composite of these parts may have."""
    return reduce(_narrower, parts, PUBLIC)


def narrowed(access: Access, widest: Access) -> Access:
    """Return the access limited to the users of another. The owner is kept if the owner is among them."""
    return access if is_within(access, widest) else _narrower(access, widest)


def narrowed_composites(access: Mapping[str, Access], made: Iterable[tuple[str, Collection[str]]]) -> dict[str, Access]:
    """Return the new access, by model, of each composite that is open to more tenants than its parts.

    Parts may be composites, too, so the search repeats until no composite is too open.
    """
    composites, present, found = list(made), dict(access), dict[str, Access]()
    while True:
        for model, parts in composites:
            known = present.get(model, PUBLIC)
            widest = common_access(present.get(part, PUBLIC) for part in parts)
            if not is_within(known, widest):
                found[model] = narrowed(known, widest)
        if found.items() <= present.items():
            return found
        present |= found


def is_within(access: Access, widest: Access) -> bool:
    """Return true if each user of the first access is a user of the second."""
    tenants, most = users_of(access), users_of(widest)
    return most is None or (tenants is not None and tenants <= most)


def check_access(access: Access) -> Access:
    """Check an access and return it unchanged.

    Raises:
        InvalidRequest: a tenant's name is invalid, or owner, visibility and sharing contradict each other.
    """
    for tenant in (*([] if access.owner is None else [access.owner]), *access.shared_with):
        check_name("tenant", tenant)
    if access.visibility is not Visibility.PUBLIC and access.owner is None:
        raise InvalidRequest("private and shared objects need an owner: set --owner")
    if (access.visibility is Visibility.SHARED) != bool(access.shared_with):
        raise InvalidRequest("visibility `shared` requires a list of tenants; other visibilities forbid one")
    return access


def _narrower(a: Access, b: Access) -> Access:
    """Return the intersection of two accesses; an owner of either is kept if it may use both."""
    first, second = users_of(a), users_of(b)
    if first is None and second is None:
        return PUBLIC
    both = second if first is None else first if second is None else first & second
    assert both is not None, "one of them is not everybody"
    owner = next((one.owner for one in (a, b) if one.owner in both), None)
    others = both - {owner}
    return Access(owner=owner, visibility=Visibility.SHARED if others else Visibility.PRIVATE, shared_with=others)


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
