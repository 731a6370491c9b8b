"""Tests of malicious exported programs, uploaded over HTTP with a key of role publish."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from schemas.access import Role
from store.pool import Pool
from tests.exported_programs import program_document, touching, write_program
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.processes import service, variables_of
from tests.waiting import PATIENCE_S, read_until


async def _upload(gateway: Guarded, key: object, file: Path) -> dict[str, str]:
    content = file.read_bytes()  # noqa: ASYNC240
    sha256 = hashlib.sha256(content).hexdigest()
    status, _, said = await gateway.ask(key, f"/v1/uploads/{sha256}", "PUT", json=None, data=io.BytesIO(content))
    assert status in (200, 201), said
    return {"name": file.name, "upload": sha256}


@pytest.mark.needs_torch
async def test_registrar_refuses_hostile_program_without_executing_it(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    """The same program without the malicious code is registered, so only that code causes the refusal."""
    await ensure_system_topics(kafka)
    key, home = await new_key(store_pool, "acme", Role.PUBLISH), tmp_path / "home"
    owned, folder = tmp_path / "owned", tmp_path / "sent"
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, label=x.argmax(1))
    programs = {"hostile": touching(owned), "harmless": program_document()}
    ended: dict[str, Any] = {}
    async with (
        guarded(kafka, database, INFAAS_HOME=home) as (gateway,),
        service("registry.service", env=variables_of(kafka, database, home)),
    ):
        data = await _upload(gateway, key, folder / "data.npz")
        for name, document in programs.items():
            file = await _upload(gateway, key, write_program(folder / f"{name}.pt2", document))
            asked = {
                "name": name, "task": f"{name}-task", "file": file, "validation": data, "max_batch": 1,
                "variants": ["torch-fp32"],
            }  # fmt: skip
            status, _, said = await gateway.ask(key, "/v1/registrations", "POST", json=asked)
            assert status == 202, said
            path = f"/v1/registrations/{said['id']}"

            async def row(path: str = path) -> dict[str, Any]:
                return (await gateway.ask(key, path, "GET", json=None))[2]

            end_s = 4 * PATIENCE_S  # each of its processes imports torch
            ended[name] = await read_until(row, lambda one: one["state"] in ("done", "failed", "cancelled"), end_s)
    assert not owned.exists()
    assert ended["hostile"]["state"] == "failed"
    assert "it contains code besides the model" in ended["hostile"]["error"]
    assert ended["harmless"]["state"] == "done", ended["harmless"]["error"]
