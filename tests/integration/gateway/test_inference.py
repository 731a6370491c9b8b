"""Tests of queries over HTTP that are answered through Kafka."""

import asyncio
import json
import re
from collections import Counter
from typing import Any

import aiohttp
import numpy as np
import pytest

from infaas.client import InfaasClient
from process.security.signature import is_rejected_upstream_proof
from schemas import headers as h
from schemas.errors import Overloaded, RefusalReason, Unsatisfiable
from schemas.oip import decode_response, encode_request
from tests.integration.gateway.conftest import SYSTEM_SECRET, Running
from tests.integration.gateway.responder import VARIANT, doubled
from tests.waiting import PATIENCE_S

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def json_body(**parameters: Any) -> bytes:
    return encode_request({"x": X}, request_id="mine", parameters=parameters, binary=False).value


async def error_of(response: aiohttp.ClientResponse) -> str:
    assert response.content_type == "application/json"
    body = await response.json()
    assert body == {"error": body["error"]} | ({"reason": reason} if (reason := response.headers.get(h.REASON)) else {})
    return body["error"]


async def test_infer_answers_json(gateway: Running) -> None:
    async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answer = await response.json()
    assert answer["id"] == "mine"
    assert answer["outputs"][0]["data"] == [0.0, 2.0, 8.0, 10.0]
    assert response.headers["infaas-variant"] == VARIANT
    assert response.headers["infaas-accuracy"] == "0.9"


async def test_infer_answers_binary(gateway: Running) -> None:
    value, length, _ = encode_request({"x": X}, request_id="mine")
    headers = {"Inference-Header-Content-Length": str(length)}
    async with gateway.http.post(gateway.infer_url, data=value, headers=headers) as response:
        assert response.content_type == "application/octet-stream"
        answer = decode_response(await response.read(), int(response.headers["Inference-Header-Content-Length"]))
    assert answer.outputs["y"].tolist() == (X[:, :2] * 2).tolist()


async def test_infer_accepts_raw_data(gateway: Running) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    async with gateway.http.post(gateway.infer_url, data=X.tobytes(), headers=headers) as response:
        assert response.status == 200
    assert gateway.responder.seen[-1]["infaas-batch"] == "2"


async def test_infer_needs_in_query_string(gateway: Running) -> None:
    url = f"{gateway.infer_url}?latency_ms=25000&min_accuracy=0.5"
    async with gateway.http.post(url, data=json_body(), headers={"infaas-min-accuracy": "0.7"}) as response:
        assert response.status == 200
    seen = gateway.responder.seen[-1]
    assert (seen["infaas-latency-ms"], seen["infaas-min-accuracy"]) == ("25000", "0.7")
    for wrong, words in (("min_acuracy=0.5", "did you mean min_accuracy?"), ("other=1", "there are latency_ms, ")):
        async with gateway.http.post(f"{gateway.infer_url}?{wrong}", data=json_body()) as response:
            assert (response.status, words in await error_of(response)) == (400, True)


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"{}", {}, "inputs"),
        (b"", {}, "the body is empty"),
        (b"\xff\x00", {}, "the body is not JSON"),
        (json_body(), {"inference-header-content-length": "-1"}, "number of bytes"),
        (json_body(), {"inference-header-content-length": "9999"}, "9999"),
    ],
)
async def test_infer_invalid_request_names_fault(
    gateway: Running, body: bytes, headers: dict[str, str], message: str
) -> None:
    async with gateway.http.post(gateway.infer_url, data=body, headers=headers) as response:
        assert response.status == 400
        assert response.headers["infaas-status"] == "invalid_request"
        assert message in await error_of(response)
    assert not gateway.responder.seen


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("nothing", {}, 404),
        ("mlp/versions/2", {}, 404),
        ("mlp", {"target": "other"}, 400),
        ("mlp", {"latency_ms": 10}, 504),
    ],
)
async def test_infer_errors_have_http_status(gateway: Running, path: str, parameters: Any, status: int) -> None:
    gateway.responder.silent = True
    async with gateway.http.post(f"{gateway.url}/v2/models/{path}/infer", data=json_body(**parameters)) as response:
        assert response.status == status
        await error_of(response)


async def test_infer_explain_returns_explanation(gateway: Running) -> None:
    told = {"reason": "unsatisfiable", "considered": [{"variant": "mlp.onnx-fp32.cpu", "verdict": "is too slow"}]}

    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        error = Unsatisfiable("nothing is as fast")
        error.explanation = told
        raise error

    gateway.responder.answer = refuse
    async with InfaasClient(gateway=gateway.url) as client:
        with pytest.raises(Unsatisfiable, match="nothing is as fast") as refused:
            await client.infer(gateway.task, {"x": [[1.0, 2.0, 3.0, 4.0]]}, explain=True)
    assert refused.value.explanation == told


async def test_infer_oversized_body_is_413(gateway: Running) -> None:
    async with gateway.http.post(gateway.infer_url, data=b" " * 70_000) as response:
        assert response.status == 413
        assert "exceeds the limit" in await error_of(response)


async def test_overload_refusal_is_cached_with_retry_after(gateway: Running) -> None:
    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Overloaded("full", reason=RefusalReason.INSTANCES_BUSY, retry_after_s=2.5)

    gateway.responder.answer = refuse
    async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
        assert response.status == 503
        assert (response.headers["Retry-After"], response.headers[h.RETRY_AFTER_MS]) == ("3", "2500")
        assert await response.json() == {"error": "full", "reason": "instances_busy"}
    asked = 1 + 60
    statuses = await asyncio.gather(*(_status(gateway) for _ in range(asked - 1)))
    assert set(statuses) == {503}
    assert len(gateway.responder.seen) < asked
    assert await refusals_by_reason(gateway) == Counter(instances_busy=len(gateway.responder.seen)) + Counter(
        recently_refused=asked - len(gateway.responder.seen)
    )
    gateway.responder.answer = doubled
    async with asyncio.timeout(30):
        while await _status(gateway) != 200:
            asked += 1
    seen = gateway.responder.seen
    assert len(seen) + sum(int(fields.get(h.REJECTED_UPSTREAM, "0")) for fields in seen) == asked + 1
    told = [fields for fields in seen if h.REJECTED_UPSTREAM in fields]
    assert told
    for fields in told:
        said = (gateway.task, fields[h.ID], fields[h.SENT_NS], fields[h.REJECTED_UPSTREAM])
        assert is_rejected_upstream_proof(SYSTEM_SECRET, fields[h.REJECTED_UPSTREAM_PROOF], *said)


async def refusals_by_reason(gateway: Running) -> Counter[str]:
    """Return the number of refused queries of the model by reason, as the gateway's metrics count them."""
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        text = await response.text()
    line = (
        rf'infaas_gateway_requests_total{{code="overloaded",model="{gateway.task}",reason="(\w+)",version="1"}} (\S+)'
    )
    return Counter({reason: int(float(count)) for reason, count in re.findall(line, text)})


async def _status(gateway: Running) -> int:
    async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 a TLS client\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_invalid_http_is_answered_in_json(gateway: Running, request_bytes: bytes) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()  # reads until the gateway closes the connection
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"content-type: application/json" in head.lower()
    assert b"infaas-status: invalid_request" in head.lower()
    assert json.loads(body)["error"].startswith("this is not HTTP: ")
