"""Tests of `CatalogView`: the rows of the catalog that a principal sees, and their visible fields."""

import pytest
from msgspec.structs import replace

from process.security.catalog_view import CatalogView
from schemas.access import ANYONE, Access, Principal, Role, Visibility
from schemas.errors import Forbidden
from schemas.rows.catalog import VariantState
from tests.example_rows import a_task, a_variant, an_architecture

MODEL, VERSION = an_architecture("mlp"), replace(an_architecture("mlp-v2"), model="mlp", version=2)
OTHER = an_architecture("cnn")
VARIANT = a_variant("mlp-v2.onnx-fp32.cpu")
SHARED = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex", "hooli"}))
ADMIN = Principal(name="root", tenant=None, roles=frozenset({Role.ADMIN}))


def publisher(tenant: str, *tasks: str) -> Principal:
    return Principal(
        name="k1", tenant=tenant, roles=frozenset({Role.PUBLISH}), tasks=frozenset(tasks) if tasks else None
    )


def sight(principal: Principal, **access: Access) -> CatalogView:
    return CatalogView(principal, {"mlp": SHARED} | access, [MODEL, VERSION, OTHER])


@pytest.mark.parametrize(
    ("principal", "sees", "changes"),
    [
        (publisher("acme"), True, True),
        (publisher("globex"), True, False),
        (publisher("umbrella"), False, False),
        (publisher("acme", "digits"), True, True),
        (publisher("acme", "another"), False, False),
        (replace(publisher("acme"), roles=frozenset({Role.QUERY})), True, False),
        (ADMIN, True, True),
        (ANYONE, True, True),
    ],
)
def test_sight_includes_versions_and_variants_of_model(principal: Principal, sees: bool, changes: bool) -> None:
    for row in (MODEL, VERSION, VARIANT):
        assert sight(principal).sees(row) is sees
        assert sight(principal).may_change(row) is changes


def test_sight_hides_models_of_hidden_task() -> None:
    private = Access(owner="globex", visibility=Visibility.PRIVATE)
    found = sight(publisher("acme"), digits=private)
    assert not any(found.sees(row) or found.may_change(row) for row in (a_task(), MODEL, VERSION, VARIANT, OTHER))


def test_sight_hides_unfinished_rows_from_users() -> None:
    rows = (replace(MODEL, removing=True), *(replace(VARIANT, state=one) for one in VariantState if one != "ready"))
    for row in rows:
        assert sight(publisher("acme")).sees(row)
        assert sight(ADMIN).sees(row)
        assert not sight(publisher("globex")).sees(row)


def test_shown_hides_origin_of_model_from_users() -> None:
    made = replace(MODEL, made_with={"threads": "2"}, sample_rows="cd" * 32)
    for principal in (publisher("acme"), ADMIN):
        assert sight(principal).shown(made) == made
        assert sight(principal).access_of("mlp") == SHARED
    user = sight(publisher("globex"))
    shown, variant = user.shown(made), user.shown(VARIANT)
    assert (shown.source, shown.sample_rows, shown.made_with, variant.artifact) == ("", "", {}, "")
    assert (shown.inputs, variant.max_batch) == (made.inputs, VARIANT.max_batch)
    assert user.access_of("mlp") == replace(SHARED, shared_with=frozenset({"globex"}))


def test_shown_hides_invisible_reference_of_task() -> None:
    task = replace(a_task(), reference=VARIANT.name)
    assert sight(publisher("globex")).shown(task) == task
    assert sight(publisher("umbrella")).shown(task).reference == ""


def test_check_may_change_names_only_visible_rows() -> None:
    with pytest.raises(Forbidden, match=r"^mlp belongs to another tenant"):
        sight(publisher("globex")).check_may_change([MODEL, VERSION])
    with pytest.raises(Forbidden, match=r"^a part of it belongs to another tenant"):
        sight(publisher("umbrella")).check_may_change([MODEL])
    sight(publisher("acme")).check_may_change([MODEL, VERSION, VARIANT])
