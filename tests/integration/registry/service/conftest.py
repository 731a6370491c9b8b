"""Fixtures of the registrar tests: uploads, registration requests, and registrars as separate processes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from registry.artifact_settings import open_uploads
from registry.artifacts import ArtifactStore
from schemas.registrations import FileRef, ModelToRegister, RegistrationStatus, ToRegister, files_of, kind_of_request
from schemas.rows.registrations import NewRegistration
from store.pool import Pool
from store.registrations import get_registration, put_registration
from store.uploads import reserve_upload, upload_arrived
from tests.model_files import make_model, make_samples
from tests.processes import service, variables_of
from tests.waiting import read_until

__all__ = ["make_model", "make_samples"]


class Bureau(NamedTuple):
    """Environment of registrations: database, uploads, and files of a small model."""

    pool: Pool
    uploads: ArtifactStore
    home: Path
    environment: dict[str, str]
    model: Path
    samples: Path

    async def upload(self, file: Path, tenant: str = "") -> FileRef:
        sha256 = self.uploads.put(file)
        assert await reserve_upload(self.pool, tenant, sha256, len(file.read_bytes()), 10**9)  # noqa: ASYNC240
        assert await upload_arrived(self.pool, tenant, sha256, 1, 10**9)
        return FileRef(name=file.name, upload=sha256)

    async def linear(self, tenant: str = "", **changes: Any) -> ModelToRegister:
        """Return a request to register the linear model with an fp32 variant only."""
        fields: dict[str, Any] = {
            "name": "linear", "task": "kind", "max_batch": 2, "partitions": 1, "variants": ("onnx-fp32",),
            "file": await self.upload(self.model, tenant), "validation": await self.upload(self.samples, tenant),
        }  # fmt: skip
        return ModelToRegister(**fields | changes)

    async def ask(self, asked: ToRegister, tenant: str = "", *, publisher: bool = False, most: int = 100) -> str:
        row = NewRegistration(
            id=uuid4().hex,
            kind=kind_of_request(asked),
            name=asked.name or "",
            tenant=tenant,
            publisher=publisher,
            asked_by="key:1",
            origin="http 127.0.0.1",
            request=msgspec.to_builtins(asked),
            uploads=tuple({one.upload for one in files_of(asked)}),
        )
        assert await put_registration(self.pool, row, most)
        return row.id

    async def status(self, registration: str) -> RegistrationStatus:
        found = await get_registration(self.pool, registration)
        assert found is not None
        return found

    async def ended(self, registration: str) -> RegistrationStatus:
        return await read_until(lambda: self.status(registration), lambda found: found.ended)

    @asynccontextmanager
    async def registrar(self, **settings: str) -> AsyncGenerator[int]:
        """Run a registrar while the context is open; yields its process id."""
        async with service("registry.service", env=self.environment | settings) as process:
            yield process.pid


@pytest.fixture
async def bureau(
    kafka: KafkaSettings,
    database: str,
    store_pool: Pool,
    tmp_path: Path,
    make_model: Callable[..., Path],
    make_samples: Callable[..., Path],
) -> Bureau:
    await ensure_system_topics(kafka)
    home = tmp_path / "home"
    variables = variables_of(kafka, database, home) | {"INFAAS_REGISTRAR_SILENT_S": "2"}
    uploads = open_uploads("", home)
    return Bureau(store_pool, uploads, home, variables, make_model(), make_samples(count=40))
