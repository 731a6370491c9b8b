"""Tests of client certificates as principals: over HTTP and gRPC, at every gateway, until revocation."""

import os
import ssl
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import grpc
import grpc.aio
import pytest
import trustme

from broker.kafka.settings import KafkaSettings
from infaas.client import ClientTls
from process.sockets import free_port
from schemas import headers as h
from schemas.access import Role
from schemas.rows.tenants import ApiKeyRow
from store.api_keys import put_key, revoke_keys
from store.errors import StoreConflict
from store.pool import Pool
from tests.certificates import authority_file, issue, issue_uri, listener_files
from tests.integration.gateway.test_authentication import QUERY, Guarded, guarded, new_key
from tests.integration.gateway.test_grpc_callers import outcome, request
from tests.waiting import read_until

WORKLOAD = "spiffe://acme/batch"
INFER = "/inference.GRPCInferenceService/ModelInfer"


async def known(pool: Pool, name: str, tenant: str = "acme", **fields: Any) -> str:
    """Map a certificate to a tenant; return the id of the row."""
    own = os.urandom(6).hex()
    await put_key(pool, ApiKeyRow(id=own, certificate=name, tenant=tenant, roles=[Role.QUERY], **fields))
    return own


class Site(NamedTuple):
    """Two gateways that verify client certificates and require authentication."""

    gateways: tuple[Guarded, ...]
    port: int
    authority: trustme.CA
    folder: Path

    def pair(self, name: str) -> tuple[Path, Path]:
        (folder := self.folder / name.replace("/", "-").replace("\0", "-")).mkdir(exist_ok=True)
        made = issue_uri if "://" in name else issue
        return made(self.authority, folder, name)

    def context(self, name: str) -> ssl.SSLContext:
        context = ClientTls(authority_file(self.authority, self.folder), *self.pair(name)).context()
        assert context is not None
        return context

    def channel(self, name: str) -> grpc.aio.Channel:
        certificate, key = (file.read_bytes() for file in self.pair(name))
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), key, certificate)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)


@pytest.fixture
async def site(kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path) -> AsyncGenerator[Site]:
    authority, port = trustme.CA(), free_port()
    files = listener_files(tmp_path, authority, authority)
    asked: dict[str, Any] = {"tls_cert": files.certificate, "tls_key": files.key, "tls_client_ca": files.client_ca}
    async with guarded(kafka, database, gateways=2, grpc_port=port, reuse_port=True, **asked) as gateways:
        yield Site(gateways, port, authority, tmp_path)


async def test_certificate_authenticates_until_revoked(site: Site, store_pool: Pool) -> None:
    rows = {name: await known(store_pool, name) for name in (WORKLOAD, "batch.example")}
    with pytest.raises(StoreConflict):
        await known(store_pool, WORKLOAD, "globex")
    key = await new_key(store_pool, "globex")
    gateway = site.gateways[0]
    for name, own in rows.items():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context(name), limit=1)) as http:
            same = [one._replace(http=http) for one in site.gateways]
            for one in same:
                await read_until(partial(shown, one), lambda told: told[0] == 200)
                assert await shown(one, "/infer?latency_ms=60000") == (200, ""), "aiohttp's way"
                assert await shown(one, "/v2", "GET") == (200, "")
            assert gateway.responder.seen[-1][h.TENANT] == "acme"
            for one in same:
                await read_until(partial(one.status, key), lambda status: status == 200)
            assert gateway.responder.seen[-1][h.TENANT] == "globex", "a key beside a certificate counts"
            assert await same[0].status("wrong") == 401
            async with site.channel(name) as channel:
                assert (await outcome(channel, INFER, request(gateway.task)))[:2] == ("OK", "")
                assert gateway.responder.seen[-1][h.TENANT] == "acme"
                assert (await outcome(channel, INFER, request(gateway.task), key))[:2] == ("OK", "")
                assert gateway.responder.seen[-1][h.TENANT] == "globex"
                assert await revoke_keys(store_pool, [own]) == [own]
                for one in same:  # on the open connections
                    await read_until(partial(shown, one), lambda told: told[0] == 401)
                    assert "this certificate was revoked" in (await shown(one))[1]
                ended = await read_until(
                    lambda: outcome(channel, INFER, request(gateway.task)), lambda told: told[0] != "OK"
                )
                assert (ended[0], ended[1].partition(":")[0]) == ("UNAUTHENTICATED", "this certificate was revoked")
        await known(store_pool, name)  # after the revocation, the name may be mapped again


async def test_unmapped_certificate_is_refused_with_reason(site: Site, store_pool: Pool) -> None:
    limited = "spiffe://acme/limited"
    await known(store_pool, limited, tasks=["another"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context("stranger.example"))) as http:
        stranger = site.gateways[0]._replace(http=http)
        for path, method in (("/infer", "POST"), ("/v2", "GET"), ("/v2/none", "GET")):
            status, words = await shown(stranger, path, method)
            assert (status, "'stranger.example' belongs to no key" in words) == (401, True)
        assert await shown(stranger, "/v2/health/live", "GET") == (200, "")
    async with site.channel("stranger.example") as channel:
        code, words, _ = await outcome(channel, INFER, request(stranger.task))
        assert (code, "'stranger.example' belongs to no key" in words) == ("UNAUTHENTICATED", True)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context(limited))) as http,
        site.channel(limited) as channel,
    ):
        for one in site.gateways:
            told = await read_until(partial(shown, one._replace(http=http)), lambda told: told[0] != 401)
            assert told[0] == 404, "its row says which tasks"
        assert (await outcome(channel, INFER, request(stranger.task)))[0] == "NOT_FOUND"
    longer = f"{limited}\0.example"  # a C string ends at the NUL byte and would equal `limited`
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.context(longer))) as http:
        assert (await shown(site.gateways[0]._replace(http=http)))[0] == 401
    async with site.channel(longer) as channel:
        code, words, _ = await outcome(channel, INFER, request(stranger.task))
        assert (code, "belongs to no key" in words) == ("UNAUTHENTICATED", True)


async def shown(gateway: Guarded, path: str = "/infer", method: str = "POST") -> tuple[int, str]:
    """Return status and error of a request that only a certificate authenticates."""
    url = gateway.url + (f"/v2/models/{gateway.task}{path}" if path.startswith("/infer") else path)
    body: Any = None if method == "GET" else QUERY
    async with gateway.http.request(method, url, json=body) as answer:
        content = await answer.json() if answer.status >= 400 else {}
        return answer.status, content.get("error", "")
