"""Tests of the console without authentication, over TLS, for tenants, and turned off."""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import trustme

from broker.kafka.settings import KafkaSettings
from gateway.console.routes import TOKEN_HEADER
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from schemas import headers as h
from schemas.access import ANYONE, Role
from schemas.jobs import NewJob
from schemas.rows.batches import BatchStatus
from store.audit import list_acts
from store.batches import NewBatch, end_batch, put_batch
from store.jobs import put_jobs
from store.pool import Pool
from store.scaling import get_control
from store.system import read_system_secret
from tests.certificates import authority_file, listener_files
from tests.example_rows import register
from tests.integration.gateway.conftest import catalog_of
from tests.integration.gateway.test_authentication import guarded, new_key

ASK = {"Accept": "text/html"}


@asynccontextmanager
async def opened(kafka: KafkaSettings, dsn: str, **settings: bool) -> AsyncGenerator[str]:
    """Run a gateway without authentication while the context is open; yield the address of its console."""
    models, asked = ModelDirectory(catalog_of("digits")), GatewaySettings(port=0, console=settings.get("console", True))
    async with open_gateway(asked, kafka, models, dsn, asyncio.Event()) as (url, _):
        yield f"{url}/console"


async def get(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str] = {}) -> tuple[int, str]:
    async with http.get(url, headers=ASK | dict(headers), allow_redirects=False) as answer:
        return answer.status, await answer.text()


async def act(http: aiohttp.ClientSession, url: str, **fields: str) -> tuple[int, str]:
    async with http.post(url, data=fields, headers={"HX-Request": "true"}) as answer:
        return answer.status, await answer.text()


def bearer(key: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def token_in(html: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', html)
    assert found is not None
    return found[1]


async def test_console_without_authentication_is_for_this_machine(
    kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    async with opened(kafka, database) as console, aiohttp.ClientSession() as http:
        status, page = await get(http, f"{console}/scale")
        assert (status, "Sign out" in page) == (200, False)
        assert (await act(http, f"{console}/scale/pause"))[0] == 403
        status, text = await act(http, f"{console}/scale/pause", token=token_in(page))
        assert (status, "Scaling is paused." in text) == (200, True)
        assert (await get_control(store_pool)).paused
        [row] = await list_acts(store_pool)
        assert (row.actor, row.verb, row.origin) == ("anyone", "pause", "http 127.0.0.1")
        status, text = await act(http, f"{console}/keys/create", token=token_in(page), role="admin")
        assert (status, "authenticates nobody" in text) == (403, True)
        for foreign in ({"Host": "console.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert (await get(http, console, foreign))[0] == 403, foreign
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await get(http, console, link))[0] == 200
        assert (await get(http, console, link | {"Host": "console.example"}))[0] == 403
        assert (await get(http, f"{console}/static/none.js"))[0] == 404
        assert (await get(http, f"{console}/tasks/none"))[0] == 404
        assert (await get(http, f"{console}/dead-letters/x/y"))[0] == 400


async def test_console_can_be_turned_off(kafka: KafkaSettings, database: str) -> None:
    async with opened(kafka, database, console=False) as console, aiohttp.ClientSession() as http:
        for path in ("", "/sign-in", "/static/console.css"):
            assert (await get(http, console + path))[0] == 404


async def test_console_page_answers_forms_without_scripts(
    kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    async with opened(kafka, database) as console, aiohttp.ClientSession() as http:
        _, page = await get(http, f"{console}/scale")
        fields = {"token": token_in(page), "kind": "variant", "name": "mlp.onnx-fp32.cpu", "minimum": "2"}
        async with http.post(f"{console}/scale/pin", data=fields) as answer:
            text = await answer.text()
        assert (answer.status, "<html" in text, "at least 2" in text) == (200, True, True)
        async with http.post(f"{console}/scale/pin", data=fields | {"name": "none"}) as answer:
            text = await answer.text()
        assert (answer.status, "<html" in text, "there is no variant" in text) == (404, True, True)


async def test_session_over_tls_is_secure_and_no_credential(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files, admin = listener_files(tmp_path, authority), await new_key(store_pool, None, Role.ADMIN)
    trust = ssl.create_default_context(cafile=str(authority_file(authority, tmp_path)))
    async with guarded(kafka, database, tls_cert=files.certificate, tls_key=files.key) as (gateway,):
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector) as http:
            sign_in = f"{gateway.url}/console/sign-in"
            async with http.post(sign_in, data={"key": str(admin)}, allow_redirects=False) as answer:
                cookie = answer.headers["Set-Cookie"]
            assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/console"} <= set(cookie.split("; "))
            assert str(admin).split("_", 2)[2] not in cookie
            value = {"Cookie": cookie.partition(";")[0]}
            assert (await get(http, f"{gateway.url}/console/keys", value))[0] == 200
            async with http.get(f"{gateway.url}/v1/keys", headers=value) as answer:
                assert answer.status == 401  # a session is for the console alone


async def test_tenants_see_their_own_jobs_and_batches(kafka: KafkaSettings, database: str, store_pool: Pool) -> None:
    owner, other = await new_key(store_pool), await new_key(store_pool, "other")
    headers = {h.TENANT: "acme"}
    job = NewJob(id="0" * 36, model="digits", task="digits", offline=False, headers=headers, request=b"{}")
    await put_jobs(store_pool, [[job]])
    async with guarded(kafka, database) as (gateway,), aiohttp.ClientSession() as http:
        console = f"{gateway.url}/console/jobs"
        seen: list[tuple[int, bool]] = []
        for key in (owner, other):
            known = bearer(key)
            status, page = await get(http, console, known)
            assert (status, job.id[:13] in page) == (200, key is owner)
            seen.append(((await get(http, f"{console}/{job.id}", known))[0], "digits" in page))
            token = (
                {TOKEN_HEADER: token_in(page)} if key is owner else {}
            )  # only a job that may be cancelled has a form
            async with http.post(f"{console}/cancel-batch", data={"id": "batch_1"}, headers=known | token) as answer:
                assert answer.status == (404 if key is owner else 403)
        assert seen == [(200, True), (404, False)]


async def test_results_of_batch_are_for_its_tenant_and_administrators(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    owner, other = await new_key(store_pool), await new_key(store_pool, "other")
    administrator = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database, home=tmp_path) as (gateway,), aiohttp.ClientSession() as http:
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", b'{"custom_id": "1"}\n', filename="lines.jsonl")
        async with http.post(f"{gateway.url}/v1/files", data=form, headers=bearer(owner)) as answer:
            file = (await answer.json())["id"]
        batch = NewBatch("batch_1", ANYONE, file, "/v1/embeddings", "24h", 3600.0, None)
        assert await put_batch(store_pool, "acme", batch)
        await end_batch(store_pool, batch.id, BatchStatus.COMPLETED, (1, 0), (file, None), datetime.now(UTC))
        for key, status, text in ((owner, 200, '{"custom_id": "1"}\n'), (administrator, 200, None), (other, 404, None)):
            page = await get(http, f"{gateway.url}/console/jobs", bearer(key))
            assert (f'href="/console/files/{file}"' in page[1]) == (status == 200)
            answered = await get(http, f"{gateway.url}/console/files/{file}", bearer(key))
            assert answered == (status, text or answered[1])


async def test_session_and_form_of_one_gateway_are_valid_at_the_other(
    kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    """Two tenants sign in at one gateway each, and load pages of both at once: each page shows the caller's own job."""
    ids, known = {"acme": "a" * 36, "globex": "b" * 36}, dict[str, dict[str, str]]()
    jobs = [
        NewJob(id=job, model="digits", task="digits", offline=False, headers={h.TENANT: tenant}, request=b"{}")
        for tenant, job in ids.items()
    ]
    await put_jobs(store_pool, [jobs])
    keys = [str(await new_key(store_pool, tenant)) for tenant in ids]  # a gateway learns of later ones by and by
    secret = await read_system_secret(store_pool)  # as each gateway of a system does
    async with guarded(kafka, database, gateways=2, secret=secret) as gateways, aiohttp.ClientSession() as http:
        consoles = [f"{one.url}/console" for one in gateways]
        for tenant, key, console in zip(ids, keys, consoles, strict=True):
            async with http.post(f"{console}/sign-in", data={"key": key}, allow_redirects=False) as answer:
                known[tenant] = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

        async def load(tenant: str, path: str) -> set[str]:
            status, page = await get(http, path, known[tenant])
            assert status == 200, page
            return {one for one, job in ids.items() if job in page}

        loads = [(tenant, f"{console}/jobs") for tenant in ids for console in consoles]
        loads += [(tenant, f"{console}/jobs/{job}") for tenant, job in ids.items() for console in consoles]
        seen = await asyncio.gather(*(load(*one) for one in loads * 40))
        assert seen == [{tenant} for tenant, _ in loads * 40]

        pages = [(await get(http, f"{console}/jobs", known["acme"]))[1] for console in consoles]
        cancel, fields = f"{consoles[1]}/jobs/cancel", {"ids": ids["acme"], "token": token_in(pages[0])}
        for tenant, status in (("globex", 403), ("acme", 200)):
            async with http.post(cancel, data=fields, headers=known[tenant]) as answer:
                assert answer.status == status
                assert ("Cancelled 1 of 1 jobs." in await answer.text()) is (status == 200)
        assert "cancelled" in (await get(http, f"{consoles[0]}/jobs/{ids['acme']}", known["acme"]))[1]


@pytest.mark.parametrize("key", ["", "infaas_000000000000_wrong", "infaas_" + "0" * 12 + "_" + "A" * 43])
async def test_sign_in_refuses_unknown_keys(kafka: KafkaSettings, database: str, key: str) -> None:
    async with (
        guarded(kafka, database) as (gateway,),
        aiohttp.ClientSession() as http,
        http.post(f"{gateway.url}/console/sign-in", data={"key": key}) as answer,
    ):
        assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)
        assert "A" * 43 not in await answer.text()


async def test_sign_in_reads_small_urlencoded_forms_of_its_own_pages(kafka: KafkaSettings, database: str) -> None:
    parts = aiohttp.FormData({"key": "x"}, default_to_multipart=True)
    async with guarded(kafka, database) as (gateway,), aiohttp.ClientSession() as http:
        url, seen = f"{gateway.url}/console/sign-in", list[int]()
        for data in (parts, {"key": "x" * 16 * 1024}, {"key": "x"}):
            async with http.post(url, data=data) as answer:
                seen.append(answer.status)
        for path in ("sign-in", "sign-out"):
            elsewhere = {"Origin": "https://example.com"}
            async with http.post(f"{gateway.url}/console/{path}", data={"key": "x"}, headers=elsewhere) as answer:
                seen.append(answer.status)
                assert "Set-Cookie" not in answer.headers
        assert seen == [400, 413, 401, 403, 403]
