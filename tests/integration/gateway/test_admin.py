"""Tests of the admin API: output equal to the command line on Postgres, and access by role."""

import asyncio
import json
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import trustme
from typer.testing import Result

from broker.kafka.settings import KafkaSettings
from gateway.http.admin import CONNECTIONS
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from process.security.api_keys import ApiKey
from schemas import headers as h
from schemas.access import Role
from schemas.catalog import Catalog
from schemas.jobs import NewJob
from store.audit import list_acts
from store.jobs import put_jobs
from store.placement import register_worker
from store.pool import Pool
from store.scaling import get_control, list_pins
from store.settings import ENV as POSTGRES_ENV
from tests.certificates import authority_file, listener_files
from tests.example_rows import a_worker, register
from tests.integration.gateway.test_authentication import Guarded, guarded, is_known, new_key
from tests.unit.infaas.conftest import shell
from tests.unit.infaas.shell import Shell
from tests.waiting import read_until, until

__all__ = ["shell"]

VARIANT = "mlp.onnx-fp32.cpu"
PIN = f"/v1/scale/pins/variant/{VARIANT}"


class Remote(NamedTuple):
    """A gateway, an administrator's key, and the command line of a machine without services."""

    gateway: Guarded
    admin: ApiKey
    shell: Shell


@pytest.fixture
async def remote(
    kafka: KafkaSettings, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Remote]:
    await register(store_pool, VARIANT)
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database) as (gateway,):
        monkeypatch.setenv("INFAAS_URL", gateway.url)
        monkeypatch.setenv("INFAAS_KEY", str(admin))
        yield Remote(gateway, admin, shell)


async def test_scale_pin_over_http_is_audited_as_key(
    remote: Remote, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("scale", "pin", "variant", VARIANT, "--min", "2")
    shown = await asyncio.to_thread(remote.shell, *words, "--json")
    assert shown.exit_code == 0, shown.stderr
    made = json.loads(shown.stdout)
    assert (made["name"], made["minimum"], made["maximum"], made["pinned_by"]) == (
        VARIANT, 2, None, f"key:{remote.admin.id}"
    )  # fmt: skip
    [kept] = await list_pins(store_pool)
    assert (kept.minimum, kept.pinned_by) == (2, f"key:{remote.admin.id}")
    [act] = await list_acts(store_pool)
    assert (act.verb, act.actor, act.origin) == ("pin", f"key:{remote.admin.id}", "http 127.0.0.1")
    again = await asyncio.to_thread(remote.shell, *words)
    assert (again.exit_code, again.stderr) == (0, f"variant {VARIANT}: at least 2\n")
    monkeypatch.delenv("INFAAS_KEY")
    nobody = await asyncio.to_thread(remote.shell, *words)
    assert (nobody.exit_code, "INFAAS_KEY" in nobody.stderr) == (2, True)
    query = await new_key(store_pool)
    await until(lambda: is_known(remote.gateway, query))
    monkeypatch.setenv("INFAAS_KEY", str(query))
    stranger = await asyncio.to_thread(remote.shell, *words)
    assert (stranger.exit_code, "requires the role admin, and yours is query" in stranger.stderr) == (2, True)


async def test_admin_commands_print_same_over_http_and_postgres(
    remote: Remote, store_pool: Pool, database: str, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await asyncio.to_thread(remote.shell, "scale", "pause")).exit_code == 0
    assert (await asyncio.to_thread(remote.shell, "scale", "pin", "hardware", "cpu", "--max=3")).exit_code == 0
    job = NewJob(id="1", model="m", task="t", offline=True, headers={}, request=b"{}")
    await put_jobs(store_pool, [[job]])
    commands = (
        ("scale", "status"),
        ("scale", "history"),
        ("scale", "explain", "cpu"),
        ("audit", "--since", "1h", "--what", "pin"),
        ("jobs", "list"),
        ("jobs", "show", "1", "--json"),
        ("scale", "history", "--json"),
        ("audit", "--what", "pin", "--json"),
        ("scale", "unpin", "task", "nothing"),
        ("scale", "explain", "nothing"),
        ("jobs", "result", "1"),
        ("jobs", "result", "none"),
    )
    by_gateway = [await asyncio.to_thread(remote.shell, *words) for words in commands]
    monkeypatch.delenv("INFAAS_URL")
    monkeypatch.setenv(POSTGRES_ENV, database)
    for words, far in zip(commands, by_gateway, strict=True):
        near = await asyncio.to_thread(remote.shell, *words)
        assert (far.exit_code, far.stdout, far.stderr) == (near.exit_code, near.stdout, near.stderr), words


async def test_jobs_admin_limits_tenant_to_its_own_jobs(remote: Remote, store_pool: Pool) -> None:
    mine, other = await new_key(store_pool), await new_key(store_pool, "globex")
    elsewhere = await new_key(store_pool, tasks=["another"])
    for key in (mine, other, elsewhere):
        await until(partial(is_known, remote.gateway, key))
    headers = {h.TENANT: "acme"}
    await put_jobs(store_pool, [[NewJob(id="1", model="m", task="t", offline=True, headers=headers, request=b"{}")]])
    for key, seen in ((mine, ["1"]), (remote.admin, ["1"]), (other, []), (elsewhere, [])):
        status, _, listed = await remote.gateway.ask(key, "/v1/jobs", "GET", json=None)
        assert (status, [job["id"] for job in listed]) == (200, seen)
        _, _, some = await remote.gateway.ask(key, "/v1/jobs/some?ids=1", "GET", json=None)
        assert [job["id"] for job in some] == seen
        found = await remote.gateway.status(key, "/v1/jobs/1/result", "GET", json=None)
        assert found == (200 if seen else 404)
    for key, done in ((other, []), (elsewhere, []), (mine, ["1"])):
        cancelled = await remote.gateway.ask(key, "/v1/jobs/cancel", "POST", json={"ids": ["1"]})
        assert cancelled[2]["cancelled"] == done
    assert await remote.gateway.status(mine, "/v1/jobs/cancel", "POST", json={"ids": ["x" * 65]}) == 400
    # a request that cancels nothing leaves no audit entry
    assert [act.actor for act in await list_acts(store_pool)] == [f"key:{mine.id}"]


class Held:
    """Admin requests that wait until `go` is set; counts the concurrent ones."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.running = 0
        self.most = 0

    async def act(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go.wait()
        self.running -= 1


async def test_admin_reserves_connection_from_tenant_requests(
    remote: Remote, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, held = await known_key(remote, store_pool, Role.QUERY), Held()

    async def list_jobs(*_: object, tenant: str | None, **__: object) -> list[str]:
        if tenant is not None:
            await held.act()
        return []

    monkeypatch.setattr("admin.jobs.list_jobs", list_jobs)
    await no_administrator_waits(remote, held, tenant, 200, "/v1/jobs", "GET")


async def test_admin_reserves_connection_from_tenant_uploads(
    remote: Remote, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, held = await known_key(remote, store_pool, Role.PUBLISH), Held()

    async def reserve_upload(*_: object) -> None:
        await held.act()

    monkeypatch.setattr("gateway.http.uploads.reserve_upload", reserve_upload)
    await no_administrator_waits(remote, held, tenant, 429, f"/v1/uploads/{'0' * 64}", "PUT", data=b"")


async def known_key(remote: Remote, pool: Pool, role: Role) -> ApiKey:
    """Create a key of tenant acme and wait until the gateway accepts it."""
    key = await new_key(pool, "acme", role)
    await read_until(lambda: remote.gateway.status(key, "/v1/jobs", "GET", json=None), lambda status: status == 200)
    return key


async def no_administrator_waits(
    remote: Remote, held: Held, tenant: ApiKey, status: int, path: str, method: str, **sent: Any
) -> None:
    """Assert that an administrator is answered while a tenant fills all other connections."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(remote.gateway.status(tenant, path, method, json=None, **sent)) for _ in range(10)]
        await until(lambda: held.running >= CONNECTIONS - 1)
        assert await remote.gateway.status(remote.admin, "/v1/jobs", "GET", json=None) == 200
        held.go.set()
    assert [one.result() for one in asked] == [status] * 10
    assert held.most == CONNECTIONS - 1


async def test_status_reports_missing_workers(remote: Remote, store_pool: Pool) -> None:
    bad = await asyncio.to_thread(remote.shell, "status")
    assert (bad.exit_code, "no worker is alive" in bad.stdout) == (1, True)

    async def beat_and_look() -> Result:
        await register_worker(store_pool, a_worker("cpu-0"))
        return await asyncio.to_thread(remote.shell, "status", "--json")

    good = await read_until(beat_and_look, lambda shown: shown.exit_code == 0)
    report = json.loads(good.stdout)
    assert (report["problems"], report["workers"], report["variants"]) == ([], 1, 1)


async def test_local_only_commands_refuse_infaas_url(remote: Remote) -> None:
    for words in (("db", "upgrade"), ("down",)):
        shown = await asyncio.to_thread(remote.shell, *words)
        assert (shown.exit_code, "not over INFAAS_URL" in shown.stderr) == (1, True), (words, shown.stderr)


async def test_admin_commands_use_tls_and_key(
    kafka: KafkaSettings,
    database: str,
    store_pool: Pool,
    tmp_path: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    files = listener_files(tmp_path, authority)
    admin = await new_key(store_pool, None, Role.ADMIN)
    monkeypatch.setenv("INFAAS_KEY", str(admin))
    async with guarded(kafka, database, tls_cert=files.certificate, tls_key=files.key) as (gateway,):
        monkeypatch.setenv("INFAAS_URL", gateway.url)
        distrusted = await asyncio.to_thread(shell, "lag")
        assert (distrusted.exit_code, "INFAAS_GATEWAY_CA" in distrusted.stderr) == (1, True)
        monkeypatch.setenv("INFAAS_GATEWAY_CA", str(authority_file(authority, tmp_path)))
        trusted = await asyncio.to_thread(shell, "lag", "--json")
        assert (trusted.exit_code, json.loads(trusted.stdout)["alarms"]) == (0, [])
        asked = await asyncio.to_thread(shell, "query", gateway.task)
        assert (asked.exit_code, VARIANT in asked.stdout) == (0, True), asked.stderr
        monkeypatch.setenv("INFAAS_KEY", "infaas_000000000000_wrong")
        wrong = await asyncio.to_thread(shell, "lag")
        assert (wrong.exit_code, "INFAAS_KEY" in wrong.stderr) == (2, True)
    gone = await asyncio.to_thread(shell, "lag")
    assert (gone.exit_code, "cannot reach the gateway" in gone.stderr) == (1, True)
    monkeypatch.setenv("INFAAS_URL", "models.example:8080")
    shown = await asyncio.to_thread(shell, "lag")
    assert (shown.exit_code, "write the URL of a gateway" in shown.stderr) == (1, True)


async def test_admin_without_auth_accepts_only_loopback(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    """The Host header must be an address or localhost, so that DNS rebinding by a web page fails."""
    asked, models = GatewaySettings(port=0, grace_s=0.2), ModelDirectory(Catalog())
    anywhere = GatewaySettings(port=0, grace_s=0.2, host="0.0.0.0", allow_anonymous=True)
    async with aiohttp.ClientSession() as http:
        async with open_gateway(asked, kafka, models, database, asyncio.Event()) as (url, _):
            port = url.rpartition(":")[2]
            for host, status in (("127.0.0.1", 200), (f"localhost:{port}", 200), (f"evil.example:{port}", 403)):
                async with http.get(f"{url}/v1/lag", headers={"Host": host}) as answer:
                    assert answer.status == status
            page = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
            async with http.post(f"{url}/v1/scale/pause", headers=page) as answer:
                assert answer.status == 403
        async with (
            open_gateway(anywhere, kafka, models, database, asyncio.Event()) as (url, _),
            http.get(url.replace("0.0.0.0", "127.0.0.1") + "/v1/lag") as answer,
        ):
            assert (answer.status, "start it with --auth" in (await answer.json())["error"]) == (403, True)
    assert not (await get_control(store_pool)).paused


async def test_admin_maps_errors_to_http_status(remote: Remote) -> None:
    ask, admin = remote.gateway.ask, remote.admin
    assert (await ask(admin, PIN, "PUT", json={"minimum": 3, "maximum": 2}))[0] == 400
    assert (await ask(admin, PIN, "PUT", json={"minimun": 3}))[0] == 400
    assert (await ask(admin, "/v1/scale/pins/task/none", "PUT", json={"minimum": 3}))[0] == 404
    assert (await ask(admin, "/v1/scale/pins/thing/none", "PUT", json={"minimum": 3}))[0] == 400
    form = {"Content-Type": "text/plain"}
    assert (await ask(admin, PIN, "PUT", json=None, data=b'{"minimum": 3}', headers=form))[0] == 415


async def test_admin_refuses_foreign_origin(remote: Remote) -> None:
    asked = {"json": {"minimum": 1}}
    for origin, status in (("http://evil.example", 403), ("null", 403), (remote.gateway.url, 200)):
        found = await remote.gateway.ask(remote.admin, PIN, "PUT", headers={"Origin": origin}, **asked)
        assert found[0] == status
