import pytest
from msgspec.structs import replace

from gateway.model_directory import ModelDirectory
from schemas.errors import UnknownTask
from schemas.rows.rollout import Rollout
from store.catalog import Catalog
from tests.store_rows import a_task, a_variant, an_architecture


def test_a_newer_catalog_replaces_the_names() -> None:
    models = ModelDirectory(Catalog(tasks={"digits": a_task()}))
    assert models.topics == ["infaas.tasks.digits"]
    models.update(Catalog())
    assert not list(models)
    assert models.asked_at("/v2/models/digits/infer") is None


def test_what_a_path_asks_is_found_with_and_without_its_version() -> None:
    models = ModelDirectory(Catalog(tasks={"digits": a_task()}))
    digits = models.find("digits")
    assert models.asked_at("/v2/models/digits/infer") is digits
    assert models.asked_at("/v2/models/digits/versions/1/infer") is digits
    for path in ("/v2/models/digits", "/v2/models/digits/versions/2/infer", "/v2/models/digits/infer?x=1", "/infer"):
        assert models.asked_at(path) is None


def test_a_version_is_asked_for_by_its_path() -> None:
    rows = (an_architecture(), replace(an_architecture("mlp-v2"), model="mlp", version=2))
    variants = (a_variant(), a_variant("mlp-v2.onnx-fp32.cpu"))
    models = ModelDirectory(
        Catalog(
            tasks={"digits": a_task()},
            architectures={row.name: row for row in rows},
            variants={row.name: row for row in variants},
            rollouts={"mlp": Rollout(model="mlp", serving=2)},
        )
    )
    assert models.find("mlp").target == "mlp"
    assert models.find("mlp").version == "2"
    assert models.find("mlp").metadata()["versions"] == ["1", "2"]
    for version in ("1", "2"):
        found = models.asked_at(f"/v2/models/mlp/versions/{version}/infer")
        assert found is models.find("mlp", version)
        assert models.find("mlp", version).target == f"mlp@{version}"
    with pytest.raises(UnknownTask, match="no version '3'; there is 1, 2"):
        models.find("mlp", "3")
    assert {model.name for model in models} == {"digits", "mlp", "mlp.onnx-fp32.cpu", "mlp-v2.onnx-fp32.cpu"}
