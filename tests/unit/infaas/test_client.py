"""Tests of the client without a system, or with a simulated gateway."""

import asyncio
import re
import resource
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from broker.kafka.settings import KafkaSettings
from infaas.client import InfaasClient, SyncInfaasClient
from schemas.errors import Internal, InvalidRequest, OperatorError, QuotaExceeded
from schemas.oip import decode_request
from tests.served_apps import served

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@asynccontextmanager
async def simulated_gateway(task: str, answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncGenerator[str]:
    """Serve the queries of a task, and return the URL."""
    app = web.Application()
    app.add_routes([web.post(f"/v2/models/{task}/infer", answer)])
    async with served(app) as url:
        yield url


async def test_client_block_raises_errors_unchanged() -> None:
    with pytest.raises(InvalidRequest, match="at least one input"):
        async with InfaasClient(gateway="http://127.0.0.1:1") as client:
            await client.infer("digits", {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("min_acuracy", "did you mean min_accuracy?"),
        ("timeout", "did you mean timeout_s?"),
        ("colour", "there are latency_ms"),
    ],
)
async def test_client_refuses_an_option_it_does_not_know(name: str, words: str) -> None:
    options: Any = {name: 0.87}
    async with InfaasClient(gateway="http://127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest, match=re.escape(words)):
            await client.infer("digits", {"x": X}, **options)
        with pytest.raises(InvalidRequest, match=re.escape(words)):
            async for _answer in client.infer_many("digits", [{"x": X}], **options):
                pass
    with (
        SyncInfaasClient(gateway="http://127.0.0.1:1") as client,
        pytest.raises(InvalidRequest, match=re.escape(words)),
    ):
        client.infer("digits", {"x": X}, **options)


def test_client_refuses_a_system_option_it_does_not_know() -> None:
    options: Any = {"gatway": "http://127.0.0.1:1"}
    for client in (InfaasClient, SyncInfaasClient):
        with pytest.raises(OperatorError, match=r"did you mean gateway=\?"):
            client(**options)


def test_client_requires_either_kafka_or_gateway() -> None:
    for client in (InfaasClient, SyncInfaasClient):
        with pytest.raises(OperatorError, match="key= is for gateway= only"):
            client(kafka="127.0.0.1:9092", key="abc")
        with pytest.raises(OperatorError, match="kafka= and gateway="):
            client()
        with pytest.raises(OperatorError, match="kafka= and gateway="):
            client(kafka="127.0.0.1:1", gateway="http://127.0.0.1:1")
        with pytest.raises(OperatorError, match=r"'127\.0\.0\.1:8080': write its URL, e\.g\. http://"):
            client(gateway="127.0.0.1:8080")
        for wrong in (
            "http://a..b",
            f"http://{'x' * 64}:80",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:x",
            "http://[::1",
        ):
            with pytest.raises(OperatorError, match="write its URL"):
                client(gateway=wrong)


async def test_client_hides_credentials_in_gateway_url() -> None:
    with pytest.raises(OperatorError) as wrong:
        InfaasClient(gateway="ftp://me:hush@127.0.0.1:1")
    with pytest.raises(OperatorError, match=r"http://127\.0\.0\.1:1 contains a user"):
        InfaasClient(gateway="http://me:hush@127.0.0.1:1", key="secret")
    async with InfaasClient(gateway="http://me:hush@127.0.0.1:1") as client:
        with pytest.raises(Internal, match=r"the gateway at http://127\.0\.0\.1:1 ") as away:
            await client.infer("digits", {"x": X})
    assert "hush" not in f"{wrong.value} {away.value}"


def test_client_warns_of_unencrypted_key(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("http://127.0.0.1:1", "http://localhost:1", "https://models.example"):
        InfaasClient(gateway=url, key="secret")
    assert caplog.text == ""
    for _ in range(2):
        InfaasClient(gateway="http://models.example", key="secret")
    assert len(caplog.messages) == 1
    assert "the key goes to models.example unencrypted" in caplog.text
    assert "secret" not in caplog.text


async def test_client_reports_unreachable_kafka() -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=300)
    with pytest.raises(OperatorError, match=r"127\.0\.0\.1:1"):
        await InfaasClient(kafka=settings).__aenter__()


async def test_client_reports_unreachable_gateway() -> None:
    async with InfaasClient(gateway="http://127.0.0.1:1") as client:
        with pytest.raises(Internal, match=r"cannot reach the gateway at http://127\.0\.0\.1:1 .*is it running"):
            await client.infer("digits", {"x": X})


async def test_client_tells_unknown_host_from_port_without_listener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = socket.getaddrinfo

    def look_up(host: str, *words: Any, **more: Any) -> Any:
        if "absent" in host:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for address, said in {
        "absent:1": "unknown host 'absent'",
        "127.0.0.1:1": r"nobody listens at 127\.0\.0\.1:1",
    }.items():
        with pytest.raises(OperatorError, match=said):
            await InfaasClient(kafka=address).__aenter__()
        with pytest.raises(OperatorError, match=said):
            await asyncio.to_thread(SyncInfaasClient(kafka=address).__enter__)
        async with InfaasClient(gateway=f"http://{address}") as client:
            with pytest.raises(Internal, match=f"cannot reach the gateway at http://{address} .{said}"):
                await client.infer("digits", {"x": X})


async def test_client_maps_errors_of_a_proxy() -> None:
    async def limited(_request: web.Request) -> web.Response:
        return web.Response(status=429, text="slow down")

    async with simulated_gateway("digits", limited) as url, InfaasClient(gateway=url) as client:
        with pytest.raises(QuotaExceeded, match="slow down"):
            await client.infer("digits", {"x": X})


async def test_client_limits_connections_to_half_the_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full, now, most = asyncio.Barrier(10), 0, 0

    def twenty(_kind: int) -> tuple[int, int]:
        return 20, 20

    async def held(_request: web.Request) -> web.Response:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await full.wait()  # no request is answered before ten are here at once
        now -= 1
        output = {"name": "y", "shape": [1], "datatype": "FP32", "data": [1.0]}
        return web.json_response({"model_name": "digits", "outputs": [output]})

    async with asyncio.timeout(60), simulated_gateway("digits", held) as url:
        monkeypatch.setattr(resource, "getrlimit", twenty)
        async with InfaasClient(gateway=url) as client, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(client.infer("digits", {"x": X})) for _ in range(50)]
    assert {answer.result().outputs["y"].item() for answer in asked} == {1.0}
    assert most == 10


async def test_client_sends_texts_and_bytes_unchanged() -> None:
    seen: list[list[bytes]] = []

    async def remembered(request: web.Request) -> web.Response:
        length = int(request.headers["inference-header-content-length"])
        asked = decode_request(await request.read(), length)
        seen.append(asked.inputs["text"].tolist())
        return web.json_response({"model_name": "reviews", "outputs": [], "parameters": {}})

    async with simulated_gateway("reviews", remembered) as url, InfaasClient(gateway=url) as client:
        for values in ("één", ["a", "longer"], [b"\x89PNG\x00\x00", b""], b"\x00", np.array(["a", "b"])):
            await client.infer("reviews", {"text": values})
    assert seen == [["één".encode()], [b"a", b"longer"], [b"\x89PNG\x00\x00", b""], [b"\x00"], [b"a", b"b"]]
