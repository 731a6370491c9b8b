"""Database of its own for a bench, and synthetic rows of its catalog."""

import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from broker.system_claim import claim_namespace
from registry.system_identity import join_system
from schemas.latency import BatchLatency
from schemas.rows.catalog import AccuracySource, Architecture, Profile, Task, Variant, VariantState
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import DatabaseSession, open_pool
from store.registry import put_architecture, put_task, put_variant
from store.system import read_system

_NO_FILE: Final = "0" * 64


@asynccontextmanager
async def fresh_database(kafka: KafkaSettings | None = None) -> AsyncGenerator[str]:
    """Run a Postgres of its own; yields its DSN.

    With `kafka`, which another database may use, it owns the namespace meanwhile: services of the other system go on,
    but none can start.
    """
    with tempfile.TemporaryDirectory(prefix="infaas-bench-", ignore_cleanup_errors=True) as folder:
        async with EmbeddedPostgres(Path(folder) / "postgres", durable=False) as postgres:
            await upgrade(postgres.dsn)
            if kafka is None:
                yield postgres.dsn
            else:
                async with _owning(kafka, postgres.dsn):
                    yield postgres.dsn


@asynccontextmanager
async def _owning(kafka: KafkaSettings, dsn: str) -> AsyncGenerator[None]:
    """Let the system of a database own the namespace while the context is open."""
    async with open_pool(dsn, max_size=1) as pool:
        own = (await read_system(pool)).id
        owner = await claim_namespace(kafka, own, "bench")
        await join_system(pool, kafka, take_over=True)
    try:
        yield
    finally:
        if owner.system != own:
            await claim_namespace(kafka, owner.system, owner.by, take_over=True)


def synthetic_variant(name: str, task: str, **changed: Any) -> Variant:
    """Return a variant of the architecture in its name; `changed` fields differ from those of an ONNX file in fp32."""
    row = Variant(
        name=name, architecture=name.partition(".")[0], task=task, runtime="onnx", precision="fp32", hardware="cpu",
        max_batch=1, artifact=_NO_FILE, state=VariantState.READY,
    )  # fmt: skip
    return replace(row, **changed)


def synthetic_profile(variant: str, latency: Iterable[BatchLatency], **changed: Any) -> Profile:
    """Return a profile with these latencies; `changed` fields differ from those of a small model."""
    points = tuple(latency)
    row = Profile(
        variant=variant, device="bench", threads=1, load_s=1.0, memory_bytes=1000, accuracy=0.9, samples=0,
        accuracy_source=AccuracySource.DECLARED, latency=points, intercept_s=0.0, fit_error=0.0,
        slope_s=points[-1].p50_s / points[-1].batch,
    )  # fmt: skip
    return replace(row, **changed)


async def put_models(session: DatabaseSession, task: Task, models: Iterable[tuple[Variant, Profile]]) -> None:
    """Write a task and its variants with their architectures."""
    await put_task(session, task)
    for variant, profile in models:
        name, source = variant.architecture, variant.artifact
        await put_architecture(session, Architecture(name=name, task=task.name, source=source, source_format="onnx"))
        await put_variant(session, variant, profile)
