"""Tests of keys in the admin API: creation, quotas and revocation at every gateway, local and remote commands."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from broker.kafka.settings import KafkaSettings
from process.security.api_keys import read_key
from schemas.access import Role
from store.audit import list_acts
from store.pool import Pool
from store.settings import ENV as POSTGRES_ENV
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.test_authentication import Guarded, guarded, new_key
from tests.unit.infaas.shell import Shell
from tests.waiting import read_until

ID = "0123456789ab"
CERTIFICATE = "spiffe://acme/batch"
PATH = f"/v1/keys/{ID}"


class Desk:
    """Command line that uses a gateway (remote) or Postgres directly (local)."""

    def __init__(self, shell: Shell, url: str, key: object, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._shell, self._dsn, self._monkeypatch = shell, dsn, monkeypatch
        self._remote = {"INFAAS_URL": url, "INFAAS_KEY": str(key)}

    async def run(self, *words: str, remote: bool = True, code: int = 0) -> str:
        """Run a command and check its exit code; return stdout, or stderr if a failure is expected."""
        names = {"INFAAS_URL": "", "INFAAS_KEY": "", POSTGRES_ENV: ""}
        for name, text in (names | (self._remote if remote else {POSTGRES_ENV: self._dsn})).items():
            self._monkeypatch.setenv(name, text)
        done = await asyncio.to_thread(self._shell, *words)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr

    async def both(self, *words: str) -> str:
        """Run a command locally and remotely; check that both print the same, and return it."""
        here, there = await self.run(*words, remote=False), await self.run(*words)
        assert here == there
        return there


async def test_key_takes_effect_and_is_revoked_at_every_gateway(
    kafka: KafkaSettings, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database, gateways=2) as gateways:
        desk = Desk(shell, gateways[0].url, admin, database, monkeypatch)
        made = json.loads(await desk.run("keys", "create", "--tenant", "acme", "--note", "shop", "--json"))
        key = read_key(made["key"])
        assert key is not None
        assert made["created_at"]
        for one in gateways:
            await read_until(partial(one.status, key), lambda status: status == 200)
        quota = json.loads(await desk.run("keys", "quota", key.id, "--per-second", "0.01", "--json"))
        assert (quota["per_second"], quota["concurrent"]) == (0.01, None)
        for one in gateways:
            await read_until(partial(one.status, key), lambda status: status == 429)
        listed = await desk.both("keys", "list", "--tenant", "acme", "--json")
        assert [one["id"] for one in json.loads(listed)] == [key.id]
        table = await desk.both("keys", "list")
        assert "0.01/s" in table
        assert json.loads(await desk.run("keys", "revoke", key.id, "--json"))["revoked"] == [key.id]
        for one in gateways:
            await read_until(partial(one.status, key), lambda status: status == 401)
        again = await desk.run("keys", "revoke", key.id, code=2)
        assert again == await desk.run("keys", "revoke", key.id, code=2, remote=False)
        whole = await desk.run("keys", "revoke", str(key), code=2)
        rows = await list_acts(store_pool)
        acts = json.dumps([[act.actor, act.origin, act.verb, act.subject, act.detail, act.error] for act in rows])
    assert f"key:{admin.id}" in acts
    for shown in (listed, table, acts, again, whole, caplog.text):
        assert key.secret not in shown
        assert key.hash().hex() not in shown


async def test_create_key_twice_is_refused(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database, gateways=2) as gateways:
        asked = [one.ask(admin, PATH, "PUT", json={"tenant": "acme"}) for one in gateways]
        answers = sorted(await asyncio.gather(*asked), key=lambda answer: answer[0])
        (done, headers, made), (refused, _, error) = answers
        assert (done, refused) == (200, 409)
        assert headers["Cache-Control"] == "no-store"
        assert "revoke the key" in error["error"]
        assert made["key"].split("_", 2)[2] not in json.dumps(error)
        status, _, error = await gateways[0].ask(admin, PATH, "DELETE")
        assert status == 200
        assert await gateways[1].status(admin, PATH, "DELETE") == 404


async def test_create_key_cannot_exceed_rights_of_creator(
    kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    few = await new_key(store_pool, None, Role.ADMIN, tasks=["digits"], expires_at=ends, concurrent=5)
    within: Any = {"tenant": "acme", "tasks": ["digits"], "expires_at": ends.isoformat(), "concurrent": 5}
    async with guarded(kafka, database) as (gateway,):
        for changed in ({"tasks": None}, {"tasks": ["other"]}, {"expires_at": None}, {"concurrent": None}):
            status, _, said = await gateway.ask(few, PATH, "PUT", json=within | changed)
            assert (status, "with more rights" in said["error"]) == (403, True), changed
        assert await gateway.status(few, PATH, "PUT", json=within | {"tenant": None}) == 400
        assert await gateway.status(few, PATH, "PUT", json=within) == 200
        assert await gateway.status(few, f"{PATH}/quota", "PUT", json={"concurrent": 6}) == 403
        for role in (Role.QUERY, Role.PUBLISH):
            key = await new_key(store_pool, role=role)
            await read_until(partial(is_let_in, gateway, key), bool)
            assert await gateway.status(key, "/v1/keys/ba9876543210", "PUT", json={"tenant": "acme"}) == 403
            assert await gateway.status(key, "/v1/keys", "GET") == 403


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", PATH), ("PUT", "/v1/tenants/acme"), ("POST", "/v1/tenants/acme/signing-key")]
)
async def test_admin_api_is_forbidden_without_authentication(gateway: Running, method: str, path: str) -> None:
    asked: Any = {"role": "admin"} if path == PATH else {}
    async with gateway.http.request(method, gateway.url + path, json=asked) as answer:
        said = await answer.json()
    assert (answer.status, "--auth" in said["error"]) == (403, True)


async def test_revoke_last_admin_key_warns_with_remedy(
    kafka: KafkaSettings, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = [await new_key(store_pool, None, Role.ADMIN) for _ in range(2)]
    async with guarded(kafka, database) as (gateway,):
        desk = Desk(shell, gateway.url, last, database, monkeypatch)
        await desk.run("keys", "revoke", first.id)
        status, _, said = await gateway.ask(last, f"/v1/keys/{last.id}", "DELETE")
        assert (status, said["admins_left"]) == (200, 0)
        assert "--role admin" in said["warning"]
        await read_until(partial(gateway.status, last, "/v1/keys", "GET"), lambda status: status == 401)
        assert "revoked" in await desk.run("keys", "list", code=2)
        another = (await desk.run("keys", "create", "--role", "admin", remote=False)).strip()
        await read_until(partial(gateway.status, another, "/v1/keys", "GET"), lambda status: status == 200)


async def test_keys_commands_manage_certificates_locally_and_remotely(
    kafka: KafkaSettings, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await new_key(store_pool, None, Role.ADMIN)
    create = ("keys", "create", "--certificate", CERTIFICATE, "--tenant", "acme", "--task", "digits")
    async with guarded(kafka, database) as (gateway,):
        desk = Desk(shell, gateway.url, admin, database, monkeypatch)
        for remote in (True, False):
            made = json.loads(await desk.run(*create, "--json", remote=remote))
            assert (made["key"], made["certificate"], made["tasks"]) == (None, CERTIFICATE, ["digits"])
            assert "is bound to a principal already" in await desk.run(*create, code=1, remote=not remote)
            listed = json.loads(await desk.both("keys", "list", "--tenant", "acme", "--json"))
            assert (listed[-1]["id"], listed[-1]["certificate"]) == (made["id"], CERTIFICATE)
            assert CERTIFICATE in await desk.both("keys", "list")
            assert json.loads(await desk.run("keys", "revoke", made["id"], "--json"))["revoked"] == [made["id"]]
        assert "a URI, DNS name" in await desk.run("keys", "create", "--certificate", " x", "--tenant", "acme", code=2)


async def is_let_in(gateway: Guarded, key: object) -> bool:
    return await gateway.status(key, "/v2", "GET") == 200
