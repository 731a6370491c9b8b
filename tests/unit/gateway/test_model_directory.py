from gateway.model_directory import ModelDirectory
from store.catalog import Catalog
from tests.store_rows import a_task


def test_a_newer_catalog_replaces_the_names() -> None:
    models = ModelDirectory(Catalog(tasks={"digits": a_task()}))
    assert models.topics == ["infaas.tasks.digits"]
    models.update(Catalog())
    assert not list(models)
