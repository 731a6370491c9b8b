from gateway.model_directory import ModelDirectory
from store.catalog import Catalog
from tests.store_rows import a_task


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
