"""Fixtures of registration tests: model files, labelled data, and a registry to register them in."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.register import register
from registry.request import Registration
from schemas.rows.catalog import Variant
from store.pool import Pool
from tests.model_files import make_model, make_samples, progress
from tests.s3.server import KEY, SECRET, S3Server, s3_server

__all__ = ["make_model", "make_samples", "progress"]

Register = Callable[..., Any]
ONNX_ONLY = ("onnx-int8dyn", "onnx-int8static")


@pytest.fixture(scope="session", autouse=True)
def prompt_steps() -> Generator[None]:
    """Run steps like other processes: at low priority, a test would wait minutes for one while other suites run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("registry.step_runner.BEHIND_SERVICES", 0)
        patch.setattr("registry.register.BEHIND_SERVICES", 0)
        yield


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server]:
    """Run a real S3 server with one bucket."""
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that a process needs to reach the S3 server."""
    monkeypatch.setenv("INFAAS_ARTIFACTS_ENDPOINT", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def run(
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
    store_pool: Pool,
    kafka: KafkaSettings,
    artifacts: ArtifactStore,
    progress: Any,
) -> Register:
    """Return a function that registers the linear model as `linear` of task `kind`; keywords replace fields."""

    async def run(**changes: Any) -> list[Variant]:
        fields: dict[str, Any] = {
            "architecture": "linear",
            "task": "kind",
            "max_batch": 4,
            "partitions": 2,
            "variants": ONNX_ONLY,
        }
        if "file" not in changes:
            fields["file"] = make_model()
        if "validation" not in changes:
            fields["validation"] = make_samples()
        return await register(Registration(**{**fields, **changes}), store_pool, kafka, artifacts, progress)

    return run
