"""Tests of the limits of open pages."""

from contextlib import ExitStack

import pytest

from gateway.console.routes import OpenPages
from schemas.access import Principal, Role
from schemas.errors import Overloaded


def test_open_pages_of_a_tenant_count_together_and_leave_places_for_administrators() -> None:
    pages, administrator = OpenPages(), Principal("root", None, frozenset({Role.ADMIN}))
    with ExitStack() as stack:
        for tenant in ("acme", "globex", "initech"):
            for number in range(50):
                stack.enter_context(pages.taken(Principal(f"key-{number}", tenant, frozenset({Role.QUERY}))))
            with pytest.raises(Overloaded):
                stack.enter_context(pages.taken(Principal("another", tenant, frozenset({Role.QUERY}))))
        with pytest.raises(Overloaded):
            stack.enter_context(pages.taken(Principal("key", "umbrella", frozenset({Role.QUERY}))))
        stack.enter_context(pages.taken(administrator))
