"""What a role lets one do, and which tasks."""

import pytest

from schemas.principal import ANYONE, Principal, Role


@pytest.mark.parametrize(
    ("own", "may"),
    [
        (Role.QUERY, {Role.QUERY}),
        (Role.PUBLISH, {Role.QUERY, Role.PUBLISH}),
        (Role.ADMIN, {Role.QUERY, Role.PUBLISH, Role.ADMIN}),
    ],
)
def test_a_role_includes_those_before_it(own: Role, may: set[Role]) -> None:
    principal = Principal("k", "acme", frozenset({own}))
    assert {role for role in Role if principal.has(role)} == may


def test_who_has_no_role_may_do_nothing() -> None:
    assert not any(Principal("k", "acme", frozenset()).has(role) for role in Role)


def test_tasks_are_all_or_those_that_are_named() -> None:
    assert Principal("k", "acme", frozenset({Role.QUERY})).may_ask("sentiment")
    few = Principal("k", "acme", frozenset({Role.QUERY}), frozenset({"digits"}))
    assert few.may_ask("digits")
    assert not few.may_ask("sentiment")
    assert not Principal("k", "acme", frozenset(), frozenset()).may_ask("digits")


def test_anyone_may_do_everything_for_no_tenant() -> None:
    assert all(ANYONE.has(role) for role in Role)
    assert ANYONE.tenant is None
    assert ANYONE.may_ask("digits")
