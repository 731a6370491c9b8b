"""Tests of the rights of principals: roles and tasks."""

import pytest

from schemas.access import ANYONE, Principal, Role


@pytest.mark.parametrize(
    ("own", "may"),
    [
        (set[Role](), set[Role]()),
        ({Role.QUERY}, {Role.QUERY}),
        ({Role.PUBLISH}, {Role.QUERY, Role.PUBLISH}),
        ({Role.ADMIN}, {Role.QUERY, Role.PUBLISH, Role.ADMIN}),
    ],
)
def test_role_includes_lower_roles(own: set[Role], may: set[Role]) -> None:
    principal = Principal("k", "acme", frozenset(own))
    assert {role for role in Role if principal.has(role)} == may


def test_principal_may_query_all_or_named_tasks() -> None:
    assert Principal("k", "acme", frozenset({Role.QUERY})).may_ask("sentiment")
    few = Principal("k", "acme", frozenset({Role.QUERY}), frozenset({"digits"}))
    assert (few.may_ask("digits"), few.may_ask("sentiment")) == (True, False)
    assert not Principal("k", "acme", frozenset(), frozenset()).may_ask("digits")


def test_anyone_has_all_roles_without_tenant() -> None:
    assert all(ANYONE.has(role) for role in Role)
    assert ANYONE.tenant is None
    assert ANYONE.may_ask("digits")
