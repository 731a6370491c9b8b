"""Who may use and who may change a task or a model: pure.

    private                its owner
    shared                 its owner and the tenants it is shared with
    public                 everybody
    nobody's, not public   administrators

An architecture is used by whoever may use both its model and its task. What is made of others (a cascade, a chain) by
at most those who may use all of them. Administrators use and change everything. While authentication is off there are
none: whoever asks is the tenant it says it is, and who says none uses what is public.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import reduce
from typing import TypeVar

from schemas.access import EVERY_TENANT, PUBLIC, Access, Users, Visibility
from schemas.errors import Forbidden, InvalidRequest
from schemas.names import check_name
from schemas.principal import ANYONE, Principal, Role
from schemas.rows.catalog import Architecture, Task, Variant

Row = TypeVar("Row", Task, Architecture, Variant)


def tenant_of(principal: Principal) -> str | None:
    """The tenant that someone's queries are asked as, by which everything is decided from there on."""
    if principal.name != ANYONE.name and Role.ADMIN in principal.roles:  # asked for each query: quicker than `has`
        return EVERY_TENANT
    return principal.tenant


def may_use(access: Access, principal: Principal) -> bool:
    """Whether someone may see it and ask it; to who may not, it does not exist."""
    tenants = users_of(access)
    return tenants is None or includes(tenants, tenant_of(principal))


def may_change(access: Access, principal: Principal) -> bool:
    """Whether someone may roll out, roll back, unregister and share what this is the access of, which they see."""
    if principal.has(Role.ADMIN):
        return True
    return principal.has(Role.PUBLISH) and access.owner is not None and access.owner == principal.tenant


def check_answers(task: str, of_task: Access, access: Access, who: Principal) -> None:
    """Check that a tenant may have a model with this access answer a task: others only where the task is its own.

    Raises:
        Forbidden: others would be answered by it who ask the task.
    """
    if may_change(of_task, who) or users_of(access) == frozenset({who.tenant}):
        return
    raise Forbidden(
        f"task {task} is not your tenant's: a model of yours for it is used by your tenant alone (--private), since "
        "others ask it, too"
    )


def users_of(access: Access) -> frozenset[str] | None:
    """Tenants that may use what this is the access of; None: everybody."""
    if access.visibility is Visibility.PUBLIC:
        return None
    return access.shared_with | ({access.owner} if access.owner is not None else set())


def includes(tenants: frozenset[str] | None, tenant: str | None) -> bool:
    """Whether a tenant is one of these, of whom None are all."""
    return tenants is None or tenant == EVERY_TENANT or tenant in tenants


def users_by_name(access: Mapping[str, Access], architectures: Iterable[Architecture]) -> Users:
    """Tenants that may use each task and each architecture, of those that not everybody may."""
    named = {name: tenants for name, one in access.items() if (tenants := users_of(one)) is not None}
    found = dict(named)
    for row in architectures:
        both = [tenants for name in (row.task, row.model) if (tenants := named.get(name)) is not None]
        if both:
            found[row.name] = frozenset.intersection(*both)
    return found


def used_as(row: Task | Architecture | Variant) -> str:
    """The task or architecture whose users may use a row."""
    return row.architecture if isinstance(row, Variant) else row.name


def usable_rows(rows: Mapping[str, Row], may_use: Callable[[str], bool]) -> dict[str, Row]:
    """Those of the rows, by name, that someone may use who may use the tasks and architectures of these names."""
    return {name: row for name, row in rows.items() if may_use(used_as(row))}


def common_access(parts: Iterable[Access]) -> Access:
    """The widest access that what is made of these parts may have."""
    return reduce(_narrower, parts, PUBLIC)


def narrowed(access: Access, widest: Access) -> Access:
    """The access as far as another allows it; whose it is stays, if that one may still use it."""
    return access if is_within(access, widest) else _narrower(access, widest)


def narrowed_composites(access: Mapping[str, Access], made: Iterable[tuple[str, Collection[str]]]) -> dict[str, Access]:
    """What composites must become that are open to more than the parts they are made of, by model.

    Parts may be composites, too: it goes on until nothing is too open any more.
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
    """Whether nobody may use the one who may not use the other."""
    tenants, most = users_of(access), users_of(widest)
    return most is None or (tenants is not None and tenants <= most)


def check_access(access: Access) -> Access:
    """Return it as it is kept; raises `InvalidRequest` where it makes no sense."""
    for tenant in (*([] if access.owner is None else [access.owner]), *access.shared_with):
        check_name("tenant", tenant)
    if access.visibility is not Visibility.PUBLIC and access.owner is None:
        raise InvalidRequest("what is not public is somebody's: say whose by --owner")
    if (access.visibility is Visibility.SHARED) != bool(access.shared_with):
        raise InvalidRequest("what is shared names the tenants that it is shared with, and nothing else does")
    return access


def _narrower(a: Access, b: Access) -> Access:
    """Who may use both; it is the owner's of either as long as that one may."""
    first, second = users_of(a), users_of(b)
    if first is None and second is None:
        return PUBLIC
    both = second if first is None else first if second is None else first & second
    assert both is not None, "one of them is not everybody"
    owner = next((one.owner for one in (a, b) if one.owner in both), None)
    others = both - {owner}
    return Access(owner=owner, visibility=Visibility.SHARED if others else Visibility.PRIVATE, shared_with=others)
