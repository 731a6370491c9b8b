"""Tests of two gateways and two registrars over plain HTTP, of which one registrar is killed."""

import asyncio
import hashlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from broker.kafka.settings import KafkaSettings
from process.security.api_keys import ApiKey
from schemas.access import Role
from schemas.rows.audit import AuditOutcome, AuditVerb
from store.audit import list_acts
from store.registry import list_variants
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.integration.registry.service.conftest import Bureau
from tests.integration.registry.service.test_registrar import worker_of
from tests.waiting import read_until

COUNT = 4
PATIENCE_S = 200.0
"""Long, since all registrations share the cores, and a registrar is silent for seconds before it counts as dead."""
PATH = "/v1/registrations"


async def uploaded(gateway: Guarded, key: ApiKey, file: Path) -> dict[str, str]:
    content = await asyncio.to_thread(file.read_bytes)
    sha256 = hashlib.sha256(content).hexdigest()
    status, _, _ = await gateway.ask(key, f"/v1/uploads/{sha256}", "PUT", json=None, data=content)
    assert status in (200, 201)
    return {"name": file.name, "upload": sha256}


async def test_registrars_execute_each_registration_once_despite_kill(
    bureau: Bureau, kafka: KafkaSettings, database: str
) -> None:
    admin = await new_key(bureau.pool, None, Role.ADMIN)
    names = [f"linear-{number}" for number in range(COUNT)]
    async with guarded(kafka, database, 2, INFAAS_HOME=bureau.home) as gateways:
        files = [await uploaded(gateways[0], admin, file) for file in (bureau.model, bureau.samples)]

        async def registration(number: int) -> str:
            asked: dict[str, Any] = {"name": names[number], "task": "kind", "max_batch": 2, "partitions": 1,
                                     "variants": ["onnx-fp32"], "file": files[0], "validation": files[1]}  # fmt: skip
            status, _, said = await gateways[number % 2].ask(admin, PATH, "POST", json=asked)
            assert status == 202, said
            return said["id"]

        async def row(number: int, one: str) -> dict[str, Any]:
            status, _, said = await gateways[1 - number % 2].ask(admin, f"{PATH}/{one}", "GET")
            assert status == 200, said
            return said

        async def ended(number: int, one: str) -> dict[str, Any]:
            return await read_until(
                lambda: row(number, one), lambda found: found["finished_at"] is not None, PATIENCE_S
            )

        async with bureau.registrar(), bureau.registrar():
            asked = await asyncio.gather(*map(registration, range(COUNT)))
            assert len(set(asked)) == COUNT
            await read_until(lambda: row(0, asked[0]), lambda found: found["steps_total"] > 0)
            os.kill(await worker_of(bureau, asked[0]), signal.SIGKILL)
            rows = await asyncio.gather(*(ended(number, one) for number, one in enumerate(asked)))
    assert [(found["id"], found["state"], found["error"]) for found in rows] == [(one, "done", "") for one in asked]
    assert rows[0]["attempts"] == 2
    made = Counter(variant.architecture for variant in await list_variants(bureau.pool))
    assert made == dict.fromkeys(names, 1)
    acts = await list_acts(bureau.pool, verb=AuditVerb.REGISTER)
    of_first = [act for act in acts if act.subject == names[0]]
    assert {(act.actor, act.detail["registration"]) for act in of_first} == {(f"key:{admin.id}", asked[0])}
    assert [act.outcome for act in of_first] == [AuditOutcome.DONE, AuditOutcome.BEGUN], "by the process that ended"
    status = await bureau.status(asked[0])
    assert [(one.variant.architecture, one.profile is not None) for one in status.made] == [(names[0], True)]
    done = Counter(act.subject for act in acts if act.outcome is AuditOutcome.DONE)
    assert {name: done[name] for name in names} == dict.fromkeys(names, 1)
