"""Tests of authentication: keys and tokens, on both HTTP parsers of the gateway, with third-party clients."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from gateway.http.authorization import required_role
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from infaas.client import InfaasClient
from process.security.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, make_key
from schemas import headers as h
from schemas.access import Access, Role, Visibility
from schemas.documents.__main__ import FOLDER
from schemas.errors import Unauthenticated
from schemas.rows.tenants import ApiKeyRow
from store.api_keys import put_key, revoke_keys
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool, open_pool
from tests.doc_commands import block, exported, start_of, without_start
from tests.integration.gateway.conftest import catalog_of
from tests.integration.gateway.responder import VARIANT, Responder, answering
from tests.issuer import AUDIENCE, SigningKey, claims_of, key_set, signed_by_public_key
from tests.waiting import read_until, until

QUERY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
OPEN = {"/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/docs/api"}


class Guarded(NamedTuple):
    """A gateway that requires authentication, and its responder."""

    url: str
    task: str
    http: aiohttp.ClientSession
    responder: Responder

    async def ask(self, key: object, path: str = "/infer", method: str = "POST", **more: Any) -> tuple[int, Any, Any]:
        """Send a request with this key; return status, headers and content of the response."""
        headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
        url = f"{self.url}/v2/models/{self.task}{path}" if path.startswith("/i") or path == "" else self.url + path
        async with self.http.request(method, url, json=more.pop("json", QUERY), headers=headers, **more) as answer:
            body = await answer.read()
            return answer.status, answer.headers, json.loads(body) if body.startswith((b"{", b"[")) else body

    async def status(self, key: object, path: str = "/infer", method: str = "POST", **more: Any) -> int:
        return (await self.ask(key, path, method, **more))[0]


async def new_key(pool: Pool, tenant: str | None = "acme", role: Role = Role.QUERY, **fields: Any) -> ApiKey:
    key = make_key(os.urandom(ID_BYTES + SECRET_BYTES))
    await put_key(pool, ApiKeyRow(id=key.id, secret_hash=key.hash(), tenant=tenant, roles=[role], **fields))
    return key


@asynccontextmanager
async def guarded(
    kafka: KafkaSettings,
    dsn: str,
    gateways: int = 1,
    private_to: str = "",
    secret: bytes | None = None,
    **settings: Any,
) -> AsyncGenerator[tuple[Guarded, ...]]:
    task = f"digits-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    async with AsyncExitStack() as stack:
        responder = await stack.enter_async_context(answering(kafka, task))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        asked = GatewaySettings(port=0, auth=True, grace_s=0.2, **settings)
        found: list[Guarded] = []
        for _ in range(gateways):
            private = {task: Access(owner=private_to, visibility=Visibility.PRIVATE)} if private_to else {}
            models = ModelDirectory(replace(catalog_of(task), access=private))
            opened = open_gateway(asked, kafka, models, dsn, asyncio.Event(), system_secret=secret)
            url, _ = await stack.enter_async_context(opened)
            found.append(Guarded(url, task, http, responder))
        yield tuple(found)


async def raw(url: str, request: bytes) -> bytes:
    """Return all bytes of a response, without its Date header."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return b"\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"Date:"))


def filled(path: str, name: str) -> str:
    """Fill the parameters of an OpenAPI path: `name` for the model, fixed values elsewhere."""
    return re.sub(r"{(\w+)}", lambda place: {"name": name, "kind": "task"}.get(place[1], "1"), path)


def post(path: str, key: object = None, method: str = "POST", fields: str = "") -> bytes:
    body = json.dumps(QUERY).encode()
    own = f"Authorization: Bearer {key}\r\n{fields}" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{own}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_routes_require_key_of_documented_role(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    reader = await new_key(store_pool)
    publisher = await new_key(store_pool, role=Role.PUBLISH)
    admin = await new_key(store_pool, None, Role.ADMIN)
    stranger = make_key(os.urandom(ID_BYTES + SECRET_BYTES))
    known = {Role.QUERY: reader, Role.PUBLISH: publisher, Role.ADMIN: admin}
    async with guarded(kafka, database) as (gateway,):
        routes = json.loads((FOLDER / "openapi.json").read_text())["paths"]
        asked = [(method.upper(), path) for path, methods in routes.items() for method in methods]
        for method, path in asked:
            actual = filled(path, gateway.task)
            for key in (None, stranger):
                status, headers, content = await gateway.ask(key, actual, method)
                if path in OPEN:
                    assert status == 200
                else:
                    assert (status, headers[h.STATUS]) == (401, "unauthenticated"), (method, path)
                    assert headers["WWW-Authenticate"] == 'Bearer realm="infaas"'
                    assert set(content) == {"error"}
            for role, key in known.items():
                status = await gateway.status(key, actual, method)
                takes = required_role(method, path) or Role.QUERY
                may = list(Role).index(role) >= list(Role).index(takes)
                assert (status not in (401, 403, 500)) if may else (status == 403), (method, path, role)
        assert await gateway.status(reader, "/v2/none", "GET") == 404
        assert await gateway.status(None, "/v2/none", "GET") == 401


async def test_tenant_comes_from_key_not_request(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    key, admin = await new_key(store_pool), await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database) as (gateway,):
        says: Any = {"json": QUERY | {"parameters": {"tenant": "other"}}, "headers": {h.TENANT: "another"}}
        assert await gateway.status(key, **says) == 200
        assert await gateway.status(key, "/infer?tenant=third", **says) == 200
        assert await gateway.status(admin, **says) == 200
        assert [fields.get(h.TENANT) for fields in gateway.responder.seen] == ["acme", "acme", "*"]
        async with InfaasClient(gateway=gateway.url, key=str(key)) as client:
            await client.infer(gateway.task, {"x": [[1.0, 2.0, 3.0, 4.0]]}, tenant="other", json=True)
        assert gateway.responder.seen[-1][h.TENANT] == "acme"
        async with InfaasClient(gateway=gateway.url) as client:
            with pytest.raises(Unauthenticated, match="authentication is required"):
                await client.infer(gateway.task, {"x": [[1.0, 2.0, 3.0, 4.0]]})


async def test_task_outside_key_answers_as_unknown(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    async with guarded(kafka, database) as (gateway,):
        key = await new_key(store_pool, tasks=["another"])
        await until(lambda: is_known(gateway, key))
        absent = "x" * len(gateway.task)
        for credential in (key, None, "wrong"):
            for path in ("/v2/models/{}/infer", "/v2/models/{}/versions/1/infer", "/v2/models/{}/jobs"):
                there, not_there = [
                    (await raw(gateway.url, post(path.format(name), credential))).replace(name.encode(), b"...")
                    for name in (gateway.task, absent)
                ]
                assert there == not_there
                assert there.startswith(b"HTTP/1.1 404" if credential is key else b"HTTP/1.1 401")
        assert (await gateway.ask(key, "/v2/repository/index", json={}))[2] == []
        assert (await gateway.ask(key, "/v2/models/stats", "GET"))[2] == {"model_stats": []}


async def test_private_model_answers_as_unknown_to_others(
    kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    """On every route, with any tenant that the request claims."""
    owner, admin = await new_key(store_pool, role=Role.PUBLISH), await new_key(store_pool, None, Role.ADMIN)
    other = await new_key(store_pool, "globex", Role.PUBLISH)
    document = json.loads((FOLDER / "openapi.json").read_text())["paths"]
    routes = [(method.upper(), path) for path, methods in document.items() for method in methods if "{name}" in path]
    async with guarded(kafka, database, private_to="acme") as (gateway,):
        for claim in ("acme", "*"):
            for name in (gateway.task, "mlp", VARIANT):
                absent = "x" * len(name)
                for method, path in routes:
                    there, not_there = [
                        await raw(
                            gateway.url,
                            post(filled(path, one), other, method, f"{h.TENANT}: {claim}\r\n"),
                        )
                        for one in (name, absent)
                    ]
                    assert there.replace(name.encode(), b"...") == not_there.replace(absent.encode(), b"...")
                    listing = method == "GET" and path.endswith("/jobs")
                    told = {b"200"} if listing else {b"404"}
                    if (
                        path.startswith("/v1") or "/generate" in path
                    ):  # the role and the body are checked before the name
                        told |= {b"400", b"403", b"415"}
                    assert there[9:12] in told, (method, path)
        listed = "/v2/repository/index"
        assert (await gateway.ask(other, listed, json={}))[2] == []
        assert (await gateway.ask(other, "/v2/models/stats", "GET"))[2] == {"model_stats": []}
        for key in (owner, admin):
            assert {model["name"] for model in (await gateway.ask(key, listed, json={}))[2]} >= {gateway.task, "mlp"}
            assert await gateway.status(key) == 200
        assert [fields[h.TENANT] for fields in gateway.responder.seen] == ["acme", "*"]


async def is_known(gateway: Guarded, key: ApiKey) -> bool:
    return await gateway.status(key, "/v2", "GET") == 200


async def test_quota_refusal_names_limit_and_retry_after(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    slow = await new_key(store_pool, per_second=0.01)
    few = await new_key(store_pool, concurrent=1)
    batches, kept = await new_key(store_pool, per_second=2.0), await new_key(store_pool, per_second=2.0)
    async with guarded(kafka, database) as (gateway,):
        for path in ("/infer", "/infer?latency_ms=60000"):  # the gateway's own parser, and aiohttp's
            first = await gateway.status(slow, path)
            status, headers, content = await gateway.ask(slow, path)
            assert (first, status) == (200 if path == "/infer" else 429, 429)
            assert headers[h.STATUS] == "quota_exceeded"
            assert headers["RateLimit-Policy"] == '"rate";q=36;w=3600'
            assert headers["RateLimit"].startswith('"rate";r=0;t=')
            assert 1 <= int(headers["Retry-After"]) <= 100
            assert "36 queries per 3600 seconds" in content["error"]
        assert await gateway.status(slow, f"/v2/models/{gateway.task}/jobs") == 429
        gateway.responder.silent = True
        waiting = asyncio.ensure_future(gateway.status(few))
        await gateway.responder.wait_seen(2)
        status, headers, _ = await gateway.ask(few)
        assert (status, headers["RateLimit-Policy"]) == (429, '"concurrency";q=1;qu="concurrent-requests"')
        await gateway.responder.answer_late()
        assert await waiting == 200
        assert await gateway.status(few) == 200
        many = {"inputs": [{"name": "x", "shape": [200, 4], "datatype": "FP32", "data": [0] * 800}]}
        assert await gateway.status(batches, json=many) == 200
        assert int((await gateway.ask(batches))[1]["Retry-After"]) > 60, "each input counts"
        jobs = f"/v2/models/{gateway.task}/jobs"
        assert await gateway.status(kept, jobs, json=many) == 202
        assert int((await gateway.ask(kept, jobs))[1]["Retry-After"]) > 60, "so does that of a job"


async def test_revoked_key_is_refused_by_every_gateway(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    first, second = await new_key(store_pool), await new_key(store_pool)
    async with guarded(kafka, database, gateways=2) as gateways:
        assert [await one.status(key) for one in gateways for key in (first, second)] == [200] * 4
        assert await revoke_keys(store_pool, [first.id]) == [first.id]
        for one in gateways:
            await read_until(partial(one.status, first), lambda status: status == 401)
            assert "was revoked" in (await one.ask(first))[2]["error"]
            assert await one.status(second) == 200
        third = await new_key(store_pool, expires_at=datetime.fromtimestamp(time.time() + 3600, UTC))
        for one in gateways:
            await read_until(partial(one.status, third), lambda status: status == 200)


async def test_known_keys_work_while_postgres_is_down(kafka: KafkaSettings, postgres_dir: Path) -> None:
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        async with open_pool(server.dsn) as pool:
            revoked, good = await new_key(pool), await new_key(pool)
            await revoke_keys(pool, [revoked.id])
            async with guarded(kafka, server.dsn) as (gateway,):
                await server.stop()
                assert [await gateway.status(key) for key in (good, revoked, good)] == [200, 401, 200]
                await server.start()
                await revoke_keys(pool, [good.id])
                await read_until(partial(gateway.status, good), lambda status: status == 401)


async def test_jobs_belong_to_tenant(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    mine, colleague = await new_key(store_pool), await new_key(store_pool)
    other, admin = await new_key(store_pool, "other"), await new_key(store_pool, None, Role.ADMIN)
    elsewhere = await new_key(store_pool, tasks=["another"])
    async with guarded(kafka, database) as (gateway,):
        jobs = f"/v2/models/{gateway.task}/jobs"
        key = {h.TENANT: "other", "Idempotency-Key": "one"}
        status, _, content = await gateway.ask(mine, jobs, headers=key)
        assert status == 202
        job = f"{jobs}/{content['id']}"
        assert (await gateway.ask(other, jobs, headers=key))[2]["id"] != content["id"], "a key is of a tenant, too"
        for whose, seen in ((mine, 1), (colleague, 1), (other, 1), (admin, 2), (elsewhere, 0)):
            listed = (await gateway.ask(whose, jobs, "GET"))[2]["jobs"]
            assert len(listed) == seen
            may = whose in (mine, colleague, admin)
            assert await gateway.status(whose, job, "GET") == (200 if may else 404)
            assert await gateway.status(whose, f"{job}/result", "GET") == (409 if may else 404)
        refused = await gateway.ask(other, job, "DELETE")
        absent = await gateway.ask(other, f"{jobs}/{'0' * len(content['id'])}", "DELETE")
        assert refused[0] == absent[0] == 404
        assert refused[2]["error"].replace(content["id"], "") == absent[2]["error"].replace(
            "0" * len(content["id"]), ""
        )
        assert await gateway.status(colleague, job, "DELETE") == 200


async def test_job_results_go_only_to_tenants_topics(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    """The jobs service writes results with the system's rights, so the gateway checks the topic."""
    mine, admin = await new_key(store_pool), await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database) as (gateway,):
        for key, topic, status in (
            (mine, "payments", 403),
            (mine, f"infaas.results.{gateway.task}", 403),
            (mine, "infaas.replies.gateway-1", 403),
            (mine, "infaas.tenants.acme2.results", 400),
            (mine, "infaas.tenants.acme.results", 202),
            (admin, "payments", 202),
            (admin, "infaas.tasks.another", 400),
        ):
            jobs = f"/v2/models/{gateway.task}/jobs"
            found, _, content = await gateway.ask(key, jobs, headers={h.REPLY_TO: topic})
            assert found == status, (topic, content)


class Issuer:
    """HTTP server of an OIDC issuer: the discovery document and the public keys."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.reads = 0
        self.url = ""

    async def discovery(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def jwks(self, _request: web.Request) -> web.Response:
        self.reads += 1
        return web.json_response(key_set(*self.keys)) if self.keys else web.Response(status=503)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Issuer"]:
        app = web.Application()
        app.add_routes([web.get("/.well-known/openid-configuration", self.discovery), web.get("/keys", self.jwks)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def token(self, key: SigningKey, **changed: Any) -> str:
        return key.sign(claims_of(self.url, time.time(), **changed))


def documented_issuer(url: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a gateway by the commands of `docs/security.md`, for this issuer."""
    text, prefix = block("docs/security.md#4"), "INFAAS_GATEWAY_"
    assert start_of(text).flags == ["--auth"], "as `guarded` starts a gateway"
    found = exported(without_start(text), folder, {"https://login.example.com/realms/main": url})
    assert all(name.startswith(prefix) for name in found)
    return {name.removeprefix(prefix).lower(): value for name, value in found.items()}


async def test_oidc_accepts_issuers_tokens_and_refuses_forgeries(
    kafka: KafkaSettings, database: str, tmp_path: Path
) -> None:
    rsa, ec, new, unknown = SigningKey("r"), SigningKey("e", "ES256"), SigningKey("n"), SigningKey("u")
    async with (
        Issuer(rsa, ec).running() as issuer,
        guarded(kafka, database, **documented_issuer(issuer.url, tmp_path), oidc_pause_s=0.3, oidc_per_second=1000) as (
            gateway,
        ),
    ):
        assert [await gateway.status(issuer.token(key)) for key in (rsa, ec, rsa)] == [200] * 3
        assert {fields[h.TENANT] for fields in gateway.responder.seen} == {"acme"}
        pretenders = (
            issuer.token(rsa, iss="https://other.example"),
            issuer.token(rsa, aud="another"),
            issuer.token(rsa, exp=int(time.time()) - 60),
            signed_by_public_key(rsa, claims_of(issuer.url, time.time())),
            unknown.sign(claims_of(issuer.url, time.time()), kid="r"),
        )
        for token in pretenders:
            for path in ("/infer", "/v2"):
                status, headers, _ = await gateway.ask(token, path, "POST" if path == "/infer" else "GET")
                assert (status, headers[h.STATUS]) == (401, "unauthenticated")
        assert await gateway.status(issuer.token(rsa, roles=["somebody"])) == 403
        assert await gateway.status(issuer.token(rsa, tasks=["another"])) == 404
        assert await gateway.status(issuer.token(rsa), "/metrics", "GET") == 403
        issuer.keys.append(new)
        await read_until(lambda: gateway.status(issuer.token(new)), lambda status: status == 200)
        before = issuer.reads
        flood = [gateway.status(issuer.token(unknown)) for _ in range(100)]
        assert set(await asyncio.gather(*flood)) == {401}
        assert issuer.reads - before <= 3, "keys are read at most each so often"
        issuer.keys.remove(rsa)
        await gateway.status(issuer.token(unknown))
        await read_until(lambda: gateway.status(issuer.token(unknown)), lambda _: issuer.reads > before + 1)
        await read_until(lambda: gateway.status(issuer.token(rsa)), lambda status: status == 401)


async def test_oidc_outage_does_not_affect_keys(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    key, rsa = await new_key(store_pool), SigningKey("r")
    async with (
        Issuer().running() as issuer,
        guarded(kafka, database, oidc_issuer=issuer.url, oidc_audience=AUDIENCE, oidc_pause_s=0.1) as (gateway,),
    ):
        assert await gateway.status(key) == 200
        status, _, content = await gateway.ask(issuer.token(rsa))
        assert (status, "cannot be read" in content["error"]) == (503, True)
        issuer.keys.append(rsa)
        await read_until(lambda: gateway.status(issuer.token(rsa)), lambda status: status == 200)


TRITON = """
import sys, numpy as np, tritonclient.http as triton
from tritonclient.utils import InferenceServerException
url, model, key = sys.argv[1:]
client, headers = triton.InferenceServerClient(url), {"Authorization": "Bearer " + key}
tensor = triton.InferInput("x", [1, 4], "FP32")
tensor.set_data_from_numpy(np.ones((1, 4), "f4"))
assert client.is_model_ready(model, headers=headers)
assert client.infer(model, [tensor], headers=headers).as_numpy("y").tolist() == [[2, 2]]
try:
    client.infer(model, [tensor])
except InferenceServerException as error:
    print(error.status(), error.message())
"""


async def test_tritonclient_authenticates_by_header(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    key = await new_key(store_pool)
    async with guarded(kafka, database) as (gateway,):
        words = (sys.executable, "-c", TRITON, gateway.url.removeprefix("http://"), gateway.task, str(key))
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        assert process.returncode == 0
        assert output.decode().startswith("401 authentication is required")
