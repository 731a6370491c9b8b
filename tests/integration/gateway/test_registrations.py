"""Tests of uploads and registrations over the admin API: access, validation, and errors that hide other tenants."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.kafka.settings import KafkaSettings
from process.security.api_keys import ApiKey
from registry.artifact_settings import open_uploads
from schemas.access import Access, Role, Visibility
from store.pool import Pool
from store.tenants import set_access
from tests.example_rows import register
from tests.full_disk import limited_files
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key

CONTENT = b"what somebody calls a model" * 50_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HERE = f"/v1/uploads/{SHA256}"
DATA: dict[str, Any] = {"name": "data.npz", "upload": SHA256}


def model(name: str = "mine", task: str = "ours", **fields: Any) -> dict[str, Any]:
    return {"name": name, "task": task, "file": {"name": "m.onnx", "upload": SHA256}, "validation": DATA, **fields}


async def send(gateway: Guarded, key: object, data: Any = CONTENT, path: str = HERE, **headers: str) -> tuple[int, Any]:
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    status, _, said = await gateway.ask(key, path, "PUT", json=None, data=body, headers=headers)
    return status, said


async def ask(gateway: Guarded, key: ApiKey, path: str, method: str = "GET", **json: Any) -> tuple[int, Any]:
    status, _, said = await gateway.ask(key, path, method, json=json or None)
    return status, said


async def stalling() -> AsyncIterator[bytes]:
    """Send ten bytes, then nothing."""
    yield CONTENT[:10]
    await asyncio.Event().wait()


async def test_upload_is_verified_and_kept_for_its_tenant(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, globex = [await new_key(store_pool, tenant, Role.PUBLISH) for tenant in ("acme", "globex")]
    reader = await new_key(store_pool)
    bounds: dict[str, Any] = {"max_uploads_bytes": 2 * len(CONTENT), "receive_timeout_s": 1.0, "INFAAS_HOME": tmp_path}
    async with guarded(kafka, database, **bounds) as (gateway,):
        assert (await ask(gateway, acme, HERE))[0] == 404
        assert (await send(gateway, reader))[0] == 403
        status, said = await send(gateway, acme, CONTENT[:-1])
        assert (status, SHA256 in said["error"]) == (400, True)
        status, said = await send(gateway, acme, stalling(), **{"Content-Length": str(len(CONTENT))})
        assert (status, "within 1 s" in said["error"]) == (408, True)
        assert (await send(gateway, acme, stalling()))[0] == 411
        assert [(await send(gateway, acme))[0] for _ in range(2)] == [201, 200]
        uploads = open_uploads("", tmp_path)
        assert uploads.has(SHA256)
        uploads.discard(SHA256)
        assert (await ask(gateway, acme, HERE))[0] == 404, "it was lost: who asks sends it again"
        with limited_files(64 * 1024):
            assert (await send(gateway, acme))[0] == 503
        assert (await send(gateway, acme))[0] == 201
        assert (await ask(gateway, acme, HERE))[1]["bytes"] == len(CONTENT)
        assert (await ask(gateway, globex, HERE))[0] == 404, "whether others have it is nobody's to know"
        other = f"/v1/uploads/{'0' * 64}"
        status, said = await send(gateway, acme, CONTENT * 2, other)
        assert (status, "would exceed the limit" in said["error"]) == (429, True)
        assert (await ask(gateway, acme, "/v1/uploads"))[1]["bytes"] == len(CONTENT)
        assert not [*tmp_path.rglob(".partial-*")]  # noqa: ASYNC240


async def test_registration_belongs_to_tenant_of_key(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    acme, globex = [await new_key(store_pool, tenant, Role.PUBLISH) for tenant in ("acme", "globex")]
    admin = await new_key(store_pool, None, Role.ADMIN)
    await register(store_pool, "open.onnx-fp32.cpu", task="all")
    await register(store_pool, "hidden.onnx-fp32.cpu", task="secret")
    for name in ("hidden", "secret"):
        await set_access(store_pool, name, Access(owner="globex", visibility=Visibility.PRIVATE))
    path = "/v1/registrations"
    async with guarded(kafka, database, INFAAS_HOME=tmp_path) as (gateway,):
        assert (await ask(gateway, acme, path, "POST", **model()))[0] == 409, "nothing was uploaded"
        for key in (acme, admin):
            assert (await send(gateway, key))[0] == 201
        refused = {
            400: (model("no name"), model(accuracy=2), model(partitions=10**9), model(partitions=65),
                  model(validation=None),
                  model(measure="os:system"), model(file={"name": "../m.onnx", "upload": SHA256}),
                  model(file={"name": "m.onnx", "url": "file:///etc/passwd"}),
                  model(beside=[{"name": "weights", "upload": SHA256, "folder": True}])),
            403: (model("open", "all"), model(task="all", access={"visibility": "public"}),
                  model(access={"owner": "globex"})),
            409: (model("hidden", "secret"), model("secret"), model(task="secret")),
        }  # fmt: skip
        for status, wrong in refused.items():
            for one in wrong:
                found, said = await ask(gateway, acme, path, "POST", **one)
                assert found == status, (one, said)
                assert "globex" not in said["error"] or "globex" in str(one), "whose it is, is theirs to know"
        status, mine = await ask(gateway, acme, path, "POST", **model())
        assert (status, mine["state"], mine["tenant"], mine["asked_by"]) == (202, "waiting", "acme", f"key:{acme.id}")
        assert (await ask(gateway, acme, path, "POST", **model("own", "all")))[0] == 202, "of no use to others"
        assert (await ask(gateway, admin, path, "POST", **model("open", "all")))[0] == 202
        kinds = [[row["kind"] for row in (await ask(gateway, key, path))[1]] for key in (globex, acme, admin)]
        assert [len(one) for one in kinds] == [0, 2, 3]
        one = f"{path}/{mine['id']}"
        assert [(await ask(gateway, globex, one, method))[0] for method in ("GET", "DELETE")] == [404, 404]
        assert (await ask(gateway, acme, one, "DELETE"))[1]["state"] == "cancelled"
        assert (await ask(gateway, admin, one, "DELETE"))[0] == 409


async def test_composite_uses_only_visible_stages(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    """A hidden stage is answered as a stage that does not exist."""
    acme = await new_key(store_pool, "acme", Role.PUBLISH)
    await register(store_pool, "open.onnx-fp32.cpu", "better.onnx-fp32.cpu", "hidden.onnx-fp32.cpu", task="all")
    await register(store_pool, "vault.onnx-fp32.cpu", task="secret")
    for name in ("hidden", "secret"):
        await set_access(store_pool, name, Access(owner="globex", visibility=Visibility.PRIVATE))
    cascades, chains = "/v1/registrations/cascades", "/v1/registrations/chains"
    seen, better, hidden = (f"{name}.onnx-fp32.cpu" for name in ("open", "better", "hidden"))
    cascade = {"task": "all", "first": seen, "then": better, "validation": DATA}
    chain = {"name": "both", "tasks": ["all", "all"]}
    async with guarded(kafka, database, INFAAS_HOME=tmp_path) as (gateway,):
        assert (await send(gateway, acme))[0] == 201
        for path, wanted, there in (
            (cascades, cascade | {"then": hidden}, hidden),
            (cascades, cascade | {"task": "secret"}, "secret"),
            (chains, chain | {"tasks": ["all", "secret"]}, "secret"),
            (chains, chain | {"through": [[seen, hidden]]}, hidden),
        ):
            absent = json.loads(json.dumps(wanted).replace(there, "absent"))
            told = [await ask(gateway, acme, path, "POST", **one) for one in (wanted, absent)]
            assert [status for status, _ in told] == [404, 404], told
            assert told[0][1]["error"].replace(there, "absent") == told[1][1]["error"]
        refused = {
            400: ((cascades, cascade | {"then": None}), (cascades, cascade | {"thresholds": [2]}),
                  (chains, chain | {"tasks": ["all"]}), (chains, chain | {"name": "a b"})),
            403: ((cascades, cascade | {"name": "open"}),
                  (cascades, cascade | {"name": "mine", "access": {"visibility": "public"}})),
            409: ((cascades, cascade | {"name": "hidden"}), (chains, chain | {"name": "secret"})),
        }  # fmt: skip
        for status, wrong in refused.items():
            for path, one in wrong:
                found, said = await ask(gateway, acme, path, "POST", **one)
                assert (found, "globex" in str(said)) == (status, False), (one, said)
        rows = [await ask(gateway, acme, path, "POST", **one) for path, one in ((cascades, cascade), (chains, chain))]
        assert [(status, row.get("kind"), row.get("name")) for status, row in rows] == [
            (202, "cascade", "open-or-better"), (202, "chain", "both")
        ]  # fmt: skip
