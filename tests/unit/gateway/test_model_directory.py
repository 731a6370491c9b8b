"""Tests of `ModelDirectory`: models by name, version and path, as each tenant sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.model_directory import ModelDirectory, ServedModels
from process.security.access import includes, users_of
from schemas.access import EVERY_TENANT, PUBLIC, Access, Visibility
from schemas.catalog import Catalog
from schemas.errors import UnknownTask
from schemas.versions import Rollout
from tests.example_rows import a_task, a_variant, an_architecture


def test_model_directory_update_replaces_names() -> None:
    models = ModelDirectory(Catalog(tasks={"digits": a_task()}))
    assert models.topics == ["infaas.tasks.digits"]
    models.update(Catalog())
    assert not list(models.seen_by(None))
    assert models.seen_by(None).find_by_path("/v2/models/digits/infer") is None


def test_find_by_path_finds_model_by_path() -> None:
    models = ModelDirectory(Catalog(tasks={"digits": a_task()})).seen_by(None)
    digits = models.find("digits")
    assert models.find_by_path("/v2/models/digits/infer") is digits
    assert models.find_by_path("/v2/models/digits/versions/1/infer") is digits
    for path in ("/v2/models/digits", "/v2/models/digits/versions/2/infer", "/v2/models/digits/infer?x=1", "/infer"):
        assert models.find_by_path(path) is None


def test_find_by_path_finds_version_by_path() -> None:
    rows = (an_architecture(), replace(an_architecture("mlp-v2"), model="mlp", version=2))
    variants = (a_variant(), a_variant("mlp-v2.onnx-fp32.cpu"))
    models = ModelDirectory(
        Catalog(
            tasks={"digits": a_task()},
            architectures={row.name: row for row in rows},
            variants={row.name: row for row in variants},
            rollouts={"mlp": Rollout(model="mlp", serving=2)},
        )
    ).seen_by(None)
    assert models.find("mlp").target == "mlp"
    assert models.find("mlp").version == "2"
    assert models.find("mlp").metadata()["versions"] == ["1", "2"]
    for version in ("1", "2"):
        found = models.find_by_path(f"/v2/models/mlp/versions/{version}/infer")
        assert found is models.find("mlp", version)
        assert models.find("mlp", version).target == f"mlp@{version}"
    with pytest.raises(UnknownTask, match="no version '3'; there is 1, 2"):
        models.find("mlp", "3")
    assert {model.name for model in models} == {"digits", "mlp", "mlp.onnx-fp32.cpu", "mlp-v2.onnx-fp32.cpu"}


TENANTS = ("acme", "globex", "a-stranger", None, EVERY_TENANT)


def _an_access(owner: str, shared_with: set[str]) -> Access:
    visibility = Visibility.SHARED if shared_with else Visibility.PRIVATE
    return Access(owner=owner, visibility=visibility, shared_with=frozenset(shared_with))


_access = st.builds(
    _an_access, st.sampled_from(["acme", "globex"]), st.sets(st.sampled_from(["acme", "globex"]), max_size=1)
)


def _catalog(tasks: list[str], names: list[str], access: dict[str, Access]) -> Catalog:
    architectures = {
        name: replace(an_architecture(name, task), model=name.removesuffix("-v2"), version=1 + name.endswith("-v2"))
        for name, task in zip(names, tasks, strict=True)
    }
    variants = {f"{name}.onnx-fp32.cpu": row.task for name, row in architectures.items() if not name.endswith("cnn")}
    return Catalog(
        tasks={name: a_task(name) for name in sorted({*tasks, "reviews"})},
        architectures=architectures,
        variants={name: replace(a_variant(name, task), max_batch=len(name)) for name, task in variants.items()},
        rollouts={"mlp": Rollout(model="mlp", serving=2)} if "mlp-v2" in names and "mlp" in names else {},
        access=access,
    )


def _without(catalog: Catalog, tenant: str | None) -> Catalog:
    """Return the catalog without the objects that a tenant may not use, as if they were never registered."""

    def hidden(*names: str) -> bool:
        return any(not includes(users_of(catalog.access.get(name, PUBLIC)), tenant) for name in names)

    architectures = {n: row for n, row in catalog.architectures.items() if not hidden(row.task, row.model)}
    return replace(
        catalog,
        tasks={name: row for name, row in catalog.tasks.items() if not hidden(name)},
        architectures=architectures,
        variants={name: row for name, row in catalog.variants.items() if row.architecture in architectures},
        rollouts={name: row for name, row in catalog.rollouts.items() if name in architectures},
        access={},
    )


@given(
    st.lists(st.sampled_from(["digits", "digits", "letters"]), min_size=5, max_size=5),
    st.dictionaries(st.sampled_from(["digits", "letters", "reviews", "mlp", "cnn", "net"]), _access, max_size=4),
)
def test_seen_by_hides_models_from_other_tenants(tasks: list[str], access: dict[str, Access]) -> None:
    tasks[1] = tasks[0]  # versions of one model
    catalog = _catalog(tasks, ["mlp", "mlp-v2", "cnn", "net", "net-cnn"], access)
    models = ModelDirectory(catalog)
    for tenant in TENANTS:
        seen, alone = models.seen_by(tenant), ModelDirectory(_without(catalog, tenant)).seen_by(None)
        assert {model.name: model for model in seen} == {model.name: model for model in alone}
        assert len(list(seen)) == len(list(alone))
        assert sorted(seen.versions(), key=str) == sorted(alone.versions(), key=str)
        for name in [*catalog.tasks, *catalog.architectures, *catalog.variants, "missing"]:
            assert _found(seen, name) == _found(alone, name)
            for version in ("1", "2", "3"):
                assert _found(seen, name, version) == _found(alone, name, version)
                path = f"/v2/models/{name}/versions/{version}/infer"
                assert seen.find_by_path(path) == alone.find_by_path(path)
            assert seen.find_by_path(f"/v2/models/{name}/infer") == alone.find_by_path(f"/v2/models/{name}/infer")


def test_seen_by_shares_table_among_unnamed_tenants() -> None:
    private = Access(owner="acme", visibility=Visibility.PRIVATE)
    models = ModelDirectory(_catalog(["digits"], ["mlp"], {"mlp": private}))
    assert len({id(models.seen_by(f"invented-{n}")) for n in range(1000)} | {id(models.seen_by(None))}) == 1
    assert models.seen_by("acme").find("mlp").ready
    assert models.seen_by("acme").find("digits").ready
    assert not models.seen_by("globex").find("digits").ready, "what is ready is another's"
    assert len(models) == 4, "of whomever: two tasks, a model and its variant"


def _found(models: ServedModels, name: str, version: str | None = None) -> object:
    try:
        return models.find(name, version)
    except UnknownTask as error:
        return str(error)


def test_of_tasks_hides_models_of_other_tasks() -> None:
    private = Access(owner="acme", visibility=Visibility.PRIVATE)
    models = ModelDirectory(_catalog(["digits", "letters"], ["mlp", "cnn"], {"digits": private}))
    for tasks in ({"digits"}, {"letters"}, {"digits", "letters"}, {"another"}, set[str]()):
        all_of_them, some = models.seen_by("acme"), models.seen_by("acme").of_tasks(frozenset(tasks))
        assert {model.name for model in some} == {model.name for model in all_of_them if model.task in tasks}
        assert {model.name for model in some.versions()} == {model.name for model in some}
        for model in all_of_them:
            assert some.find_by_path(f"/v2/models/{model.name}/infer") is (model if model.task in tasks else None)
            if model.task not in tasks:
                missing = str(_found(some, "missing", "7")).replace("missing", model.name)
                assert _found(some, model.name, "7") == missing
    assert models.seen_by("acme").of_tasks(None) is models.seen_by("acme")
