"""Test that a worker removes the secrets from its environment."""

from pathlib import Path

import psutil

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from store.placement import list_workers
from store.pool import Pool
from tests.processes import service, variables_of
from tests.waiting import read_until, until


async def test_worker_removes_secrets_from_environment(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    """The worker removes them before it loads a model, because models compute in the same process."""
    await ensure_system_topics(kafka)
    secrets = {"INFAAS_SIGNING_SECRET": "sesame", "AWS_SECRET_ACCESS_KEY": "sesame"}  # pragma: allowlist secret
    env = variables_of(kafka, database, tmp_path) | {"INFAAS_WORKERS_NAME": "cpu-0", **secrets}
    async with service("workers", env=env) as process:
        assert "sesame" in psutil.Process(process.pid).environ().values()
        await read_until(lambda: list_workers(store_pool), bool)
        await until(lambda: "sesame" not in psutil.Process(process.pid).environ().values())
        assert database not in psutil.Process(process.pid).environ().values()
