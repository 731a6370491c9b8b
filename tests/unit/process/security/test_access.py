"""Tests of access: use and change by tenant and role, and the access of composites."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from process.security.access import (
    STRANGERS,
    TenantClasses,
    check_access,
    common_access,
    includes,
    is_within,
    may_change,
    may_use,
    narrowed,
    narrowed_composites,
    tenant_of,
    users_by_name,
    users_of,
)
from schemas.access import ANYONE, EVERY_TENANT, PUBLIC, Access, Principal, Role, Visibility
from schemas.errors import InvalidRequest
from tests.example_rows import an_architecture

TENANTS = ("acme", "globex", "initech")
_tenants = st.frozensets(st.sampled_from(TENANTS))
_access = st.one_of(
    st.builds(Access, owner=st.none() | st.sampled_from(TENANTS)),
    st.builds(Access, owner=st.sampled_from(TENANTS), visibility=st.just(Visibility.PRIVATE)),
    st.builds(
        Access,
        owner=st.sampled_from(TENANTS),
        visibility=st.just(Visibility.SHARED),
        shared_with=st.frozensets(st.sampled_from(TENANTS), min_size=1),
    ),
)


def principal(tenant: str | None, *roles: Role) -> Principal:
    return Principal(name="k1", tenant=tenant, roles=frozenset(roles))


PRIVATE = Access(owner="acme", visibility=Visibility.PRIVATE)
SHARED = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex"}))


@pytest.mark.parametrize(
    ("access", "may"),
    [
        (PUBLIC, {"acme", "globex", "initech", None, "admin"}),
        (Access(owner="acme"), {"acme", "globex", "initech", None, "admin"}),
        (PRIVATE, {"acme", "admin"}),
        (SHARED, {"acme", "globex", "admin"}),
        (Access(visibility=Visibility.PRIVATE), {"admin"}),
    ],
)
def test_may_use_by_visibility_and_role(access: Access, may: set[str | None]) -> None:
    for tenant in (*TENANTS, None):
        assert may_use(access, principal(tenant, Role.QUERY)) == (tenant in may), tenant
        assert may_use(access, principal(tenant, Role.PUBLISH)) == (tenant in may), tenant
    assert may_use(access, principal("globex", Role.ADMIN)) == ("admin" in may)
    assert not may_use(PRIVATE, ANYONE), "while authentication is off there are no administrators"
    assert may_use(PRIVATE, replace(ANYONE, tenant="acme"))


def test_may_change_by_owner_and_role() -> None:
    assert may_change(SHARED, principal("acme", Role.PUBLISH))
    assert not may_change(SHARED, principal("globex", Role.PUBLISH)), "shared is for use"
    assert not may_change(SHARED, principal("acme", Role.QUERY))
    assert not may_change(PUBLIC, principal(None, Role.PUBLISH)), "what is nobody's is not everybody's"
    assert may_change(PUBLIC, principal("globex", Role.ADMIN))
    assert may_change(PRIVATE, ANYONE), "while authentication is off nobody is kept from anything"


def test_tenant_of_administrator_is_every_tenant() -> None:
    assert tenant_of(principal("acme", Role.ADMIN)) == EVERY_TENANT
    assert tenant_of(principal("acme", Role.PUBLISH)) == "acme"
    assert tenant_of(ANYONE) is None


@pytest.mark.parametrize(
    "nonsense",
    [
        Access(visibility=Visibility.PRIVATE),
        Access(owner="acme", visibility=Visibility.SHARED),
        Access(owner="acme", shared_with=frozenset({"globex"})),
        Access(owner="No Name"),
        Access(owner=EVERY_TENANT, visibility=Visibility.PRIVATE),
        Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"*"})),
    ],
)
def test_check_access_refuses_contradictions(nonsense: Access) -> None:
    with pytest.raises(InvalidRequest):
        check_access(nonsense)


@given(st.lists(_access, max_size=4), _access)
def test_common_access_is_the_intersection(parts: list[Access], other: Access) -> None:
    common = common_access(parts)
    for tenant in (*TENANTS, None, EVERY_TENANT):
        of_all = all(includes(users_of(part), tenant) for part in parts)
        assert includes(users_of(common), tenant) == of_all
    assert all(is_within(common, part) for part in parts)
    within = all(
        includes(users_of(other), tenant)
        for tenant in (*TENANTS, None, "a-stranger")
        if includes(users_of(common), tenant)
    )
    assert is_within(common, other) == within


@given(_access, _access)
def test_narrowed_access_is_the_intersection(access: Access, widest: Access) -> None:
    found = narrowed(access, widest)
    for tenant in (*TENANTS, None, EVERY_TENANT):
        assert includes(users_of(found), tenant) == all(includes(users_of(one), tenant) for one in (access, widest))
    if access.owner is not None and includes(users_of(widest), access.owner):
        assert found.owner == access.owner, "it stays whose it is"


_parts = st.frozensets(st.sampled_from(["mlp", "cnn", "pair", "chain", "whole"]), min_size=1, max_size=2)


@given(
    st.dictionaries(st.sampled_from(["mlp", "cnn", "pair", "chain", "whole"]), _access),
    st.lists(st.tuples(st.sampled_from(["pair", "chain", "whole"]), _parts), max_size=4),
)
def test_narrowed_composites_are_within_their_parts(
    access: dict[str, Access], made: list[tuple[str, frozenset[str]]]
) -> None:
    """Composites may contain composites, in any order."""
    found = narrowed_composites(access, made)
    now = access | found
    for model, parts in made:
        assert is_within(now.get(model, PUBLIC), common_access(now.get(part, PUBLIC) for part in parts))
    for model, one in found.items():
        assert one != access.get(model, PUBLIC)
        assert is_within(one, access.get(model, PUBLIC))


@given(st.dictionaries(st.sampled_from(["digits", "mlp", "cnn"]), _access))
def test_users_by_name_require_access_to_the_task(access: dict[str, Access]) -> None:
    rows = [an_architecture("mlp"), replace(an_architecture("mlp-v2"), model="mlp", version=2), an_architecture("cnn")]
    users = users_by_name(access, rows)
    for row in rows:
        for tenant in (*TENANTS, None):
            both = all(includes(users_of(access.get(name, PUBLIC)), tenant) for name in (row.model, "digits"))
            assert includes(users.get(row.name), tenant) == both


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), _tenants))
def test_tenant_classes_group_tenants_of_equal_access(users: dict[str, frozenset[str]]) -> None:
    classes = TenantClasses(users)
    of_tenant = {tenant: classes.of(tenant) for tenant in (*TENANTS, None, EVERY_TENANT, "a-stranger")}
    for tenant, tenant_class in of_tenant.items():
        usable = {name for name, tenants in users.items() if includes(tenants, tenant)}
        assert classes.usable(tenant_class) == usable
        assert all(classes.may_use(tenant_class, name) == (name in usable) for name in users)
        assert classes.may_use(tenant_class, "public")
        assert tenant_class is STRANGERS or classes.of(tenant_class) == tenant_class, "it is called by one of its own"
    distinct = {frozenset(classes.usable(one)) for one in of_tenant.values()}
    assert len(set(of_tenant.values())) == len(distinct) <= len(classes)
