"""Tests of HTTP features: compressed bodies, other methods, URL-encoded names, repeated fields."""

import gzip
import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from yarl import URL

from gateway.settings import GatewaySettings
from schemas.oip import encode_request
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.test_connections import chunked, connected, plain
from tests.integration.gateway.test_inference import json_body

LARGEST = 64 * 1024
Send = Callable[..., bytes]


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, max_body_bytes=LARGEST, receive_timeout_s=5.0)


async def test_request_body_limit_applies_after_decompression(gateway: Running) -> None:
    bomb = b" " * (LARGEST + 1)
    for encoding, body, status, message in (
        ("gzip", gzip.compress(json_body()), 200, ""),
        ("GZIP", gzip.compress(json_body()[:9]) + gzip.compress(json_body()[9:]), 200, ""),
        ("deflate", zlib.compress(json_body()), 200, ""),
        ("identity", json_body(), 200, ""),
        ("gzip", gzip.compress(bomb), 413, "exceeds the limit"),
        ("deflate", zlib.compress(bomb), 413, "exceeds the limit"),
        ("gzip", json_body(), 400, "no gzip"),
        ("gzip", gzip.compress(json_body())[:-4], 400, "ends too early"),
        ("deflate", json_body(), 400, "deflate"),
        ("br", json_body(), 415, "gzip, deflate"),
        ("gzip, gzip", gzip.compress(gzip.compress(json_body())), 415, "gzip, deflate"),
    ):
        for send in (plain, chunked):
            async with connected(gateway) as client:
                found, headers, answer = await client.ask(send(gateway, f"Content-Encoding: {encoding}", body=body))
                assert found == status, (encoding, answer)
                assert message in json.loads(answer).get("error", "")
                assert ("accept-encoding" in headers) == (status == 415)
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        assert "\ninfaas_gateway_body_bytes 0.0\n" in await response.text()


async def test_repository_index_decompresses_body(gateway: Running) -> None:
    url, packed = f"{gateway.url}/v2/repository/index", {"Content-Encoding": "gzip"}
    async with gateway.http.post(url, data=gzip.compress(b'{"ready": true}'), headers=packed) as response:
        assert {model["name"] for model in await response.json()}.isdisjoint({"empty"})
    async with gateway.http.post(url, data=b"{}", headers=packed) as response:
        assert response.status == 400


@pytest.mark.parametrize("send", [plain, chunked])
async def test_long_answers_follow_accept_encoding(gateway: Running, send: Send) -> None:
    rows = encode_request({"x": np.ones((2000, 4), np.float32)}, binary=False).value
    async with connected(gateway) as client:
        for accepted, encoding in (("gzip", "gzip"), ("gzip;q=0.1, deflate", "deflate"), ("gzip;q=0", None)):
            status, headers, body = await client.ask(send(gateway, f"Accept-Encoding: {accepted}", body=rows))
            assert (status, headers.get("content-encoding")) == (200, encoding)
            whole = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding](body)
            assert json.loads(whole)["outputs"][0]["shape"] == [2000, 2]
        _, headers, _ = await client.ask(send(gateway, "Accept-Encoding: gzip"))
        assert "content-encoding" not in headers


async def test_wrong_method_lists_allowed_methods(gateway: Running) -> None:
    async with gateway.http.head(f"{gateway.url}/v2") as response:
        assert (response.status, await response.read()) == (200, b"")
    for method, path, status, allowed in (
        ("OPTIONS", f"/v2/models/{gateway.task}/infer", 204, {"POST", "OPTIONS"}),
        ("OPTIONS", "/v2", 204, {"GET", "HEAD", "OPTIONS"}),
        ("PUT", f"/v2/models/{gateway.task}/infer", 405, {"POST"}),
        ("TRACE", "/v2/models/stats", 405, {"GET", "HEAD"}),
        ("OPTIONS", "/nowhere", 404, set[str]()),
    ):
        async with gateway.http.request(method, gateway.url + path) as response:
            assert response.status == status
            assert set(filter(None, response.headers.get("Allow", "").split(","))) == allowed
            assert status == 204 or response.content_type == "application/json"


async def test_unknown_expectation_is_refused_in_json(gateway: Running) -> None:
    async with connected(gateway) as client:
        status, headers, body = await client.ask(b"GET /v2 HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n")
        assert (status, headers["connection"]) == (417, "close")
        assert "error" in json.loads(body)


async def test_model_names_may_be_url_encoded(gateway: Running) -> None:
    name = "".join(f"%{ord(letter):02X}" for letter in gateway.task)
    for path, status in (
        (f"/v2/models/{name}/infer", 200),
        (f"/v2/models/{gateway.task}/versions/%31/infer", 200),
        (f"/v2/models/{gateway.task}%2F/infer", 404),
        ("/v2/models/%FF%00/infer", 404),
        ("/v2/models/%ED%A0%80/infer", 404),
        ("/v2/models/%zz/infer", 404),
    ):
        async with gateway.http.post(URL(gateway.url + path, encoded=True), data=json_body()) as response:
            assert response.status == status, path
            assert response.content_type == "application/json"
    async with connected(gateway) as client:
        head, _, body = plain(gateway).partition(b"\r\n\r\n")
        odd = head.replace(gateway.task.encode(), b"\xff\xfe") + b"\r\n\r\n" + body
        status, _, answer = await client.ask(odd)
        assert status in (400, 404)
        assert "error" in json.loads(answer)


async def test_repeated_fields_are_refused(gateway: Running) -> None:
    for fields, query, message in (
        (("infaas-latency-ms: 900", "Infaas-Latency-Ms: 5000"), "", "more than once"),
        (("Inference-Header-Content-Length: 10", "inference-header-content-length: 0"), "", "more than once"),
        (("Content-Length: 3",), "", "Content-Length"),
        ((), "?latency_ms=900&latency_ms=5000", "more than once"),
    ):
        async with connected(gateway) as client:
            request = plain(gateway, *fields).replace(b"/infer HTTP", f"/infer{query} HTTP".encode())
            status, _, body = await client.ask(request)
            assert (status, message.lower() in json.loads(body)["error"].lower()) == (400, True), body


async def test_openapi_and_docs_are_served(gateway: Running) -> None:
    async with gateway.http.get(f"{gateway.url}/openapi.json") as response:
        assert response.content_type == "application/json"
        assert "/docs" in (await response.json())["paths"]
    for path in ("/docs", "/docs/api"):
        async with gateway.http.get(f"{gateway.url}{path}") as response:
            page = await response.text()
            assert response.content_type == "text/html"
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert "/v2/models/{name}/infer" in page
            assert "src=" not in page


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/v2/health/ready", 200, {"ready": True, "reason": ""}),
        ("GET", "/v2/models/mlp/ready", 200, {"name": "mlp", "ready": True}),
        ("GET", "/v2/models/empty/ready", 503, {"name": "empty", "ready": False}),
        ("POST", "/v2/repository/models/empty/load", 404, None),
        ("GET", "/nothing", 404, None),
        ("DELETE", "/v2", 405, None),
    ],
)
async def test_path_answers_json(gateway: Running, method: str, path: str, status: int, content: object) -> None:
    async with gateway.http.request(method, gateway.url + path) as response:
        assert (response.status, response.content_type) == (status, "application/json")
        found = await response.json()
    if content is not None:
        assert found == content
    else:
        assert response.headers["infaas-status"] in ("invalid_request", "unknown_task")
        assert found["error"]


async def test_health_names_reason_of_stop(gateway: Running) -> None:
    gateway.stop.set()
    async with gateway.http.get(f"{gateway.url}/v2/health/ready") as response:
        assert (response.status, await response.json()) == (503, {"ready": False, "reason": "it is stopping"})
