"""Tests of queries over HTTP that are answered through Kafka."""

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any

import aiohttp
import numpy as np
import pytest

from gateway.settings import GatewaySettings
from infaas.client import InfaasClient
from schemas import headers as h
from schemas.errors import Overloaded, RefusalReason, Unsatisfiable
from schemas.oip import decode_response, encode_request
from schemas.topics import offline_topic, task_topic
from security.rejected_upstream import is_rejected_upstream_proof
from tests.integration.gateway.conftest import SYSTEM_SECRET, Running
from tests.integration.gateway.responder import VARIANT, doubled
from tests.waiting import PATIENCE_S, until

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


async def test_infer_needs_become_headers(gateway: Running) -> None:
    body = json_body(latency_ms=25000, min_accuracy=0.5, max_cost=1.5, allow_late=True, mode="online", tenant="acme")
    headers = {"infaas-min-accuracy": "0.7", "traceparent": "00-a-b-01", "infaas-id": "q-1", "x-other": "no"}
    async with gateway.http.post(gateway.infer_url, data=body, headers=headers) as response:
        assert response.headers["infaas-id"] == "q-1"
    seen = gateway.responder.seen[-1]
    assert seen["infaas-latency-ms"] == "25000"
    assert seen["infaas-min-accuracy"] == "0.7"
    assert seen["infaas-max-cost"] == "1.5"
    assert seen["infaas-allow-late"] == "true"
    assert seen["infaas-tenant"] == "acme"
    assert seen["infaas-batch"] == "2"
    assert seen["traceparent"] == "00-a-b-01"
    assert seen["infaas-reply-to"] == gateway.query_client.reply_topic
    assert "x-other" not in seen


async def test_infer_ignores_foreign_parameters_and_headers(gateway: Running) -> None:
    body = json_body(model="x", temperature=0.5, priority=0, sequence_id=0)
    headers = {"infaas-worker": "copied", "infaas-x-of-a-proxy": "yes", "latency": "x"}
    async with gateway.http.post(gateway.infer_url, data=body, headers=headers) as response:
        assert response.status == 200


async def test_infer_timeout_parameter_is_latency(gateway: Running) -> None:
    async with gateway.http.post(gateway.infer_url, data=json_body(timeout=25_000_000)) as response:
        assert response.status == 200
    assert gateway.responder.seen[-1]["infaas-latency-ms"] == "25000.0"


@pytest.mark.parametrize("name", ["mlp", VARIANT])
async def test_infer_model_in_path_becomes_target(gateway: Running, name: str) -> None:
    async with gateway.http.post(f"{gateway.url}/v2/models/{name}/versions/1/infer", data=json_body()) as response:
        assert (await response.json())["model_name"] == name
    assert gateway.responder.seen[-1]["infaas-target"] == name


async def test_infer_needs_in_query_string(gateway: Running) -> None:
    url = f"{gateway.infer_url}?latency_ms=25000&min_accuracy=0.5"
    async with gateway.http.post(url, data=json_body(), headers={"infaas-min-accuracy": "0.7"}) as response:
        assert response.status == 200
    seen = gateway.responder.seen[-1]
    assert (seen["infaas-latency-ms"], seen["infaas-min-accuracy"]) == ("25000", "0.7")
    for wrong, words in (("min_acuracy=0.5", "did you mean min_accuracy?"), ("other=1", "there are latency_ms, ")):
        async with gateway.http.post(f"{gateway.infer_url}?{wrong}", data=json_body()) as response:
            assert (response.status, words in await error_of(response)) == (400, True)


async def test_infer_second_target_is_refused(gateway: Running) -> None:
    url = f"{gateway.url}/v2/models/mlp/infer"
    async with gateway.http.post(url, data=json_body(target="other")) as response:
        assert response.status == 400
        assert "another target" in await error_of(response)


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"{}", {}, "inputs"),
        (b"", {}, "the body is empty"),
        (b"\xff\x00", {}, "the body is not JSON"),
        (json_body(min_accuracy=2), {}, "parameter min_accuracy must be"),
        (json_body(min_accuracy=1), {"infaas-min-accuracy": "2"}, "header infaas-min-accuracy must be"),
        (json_body(min_acuracy=0.5), {}, "'min_acuracy': did you mean min_accuracy?"),
        (json_body(latencyMs=5), {}, "did you mean latency_ms?"),
        (json_body(), {"infaas-min-acuracy": "0.5"}, "did you mean infaas-min-accuracy?"),
        (json_body(), {"infaas-fairness": "0.5"}, "no header is called 'infaas-fairness'"),
        (json_body(timeout="soon"), {}, r"$.parameters.timeout"),
        (json_body(), {"infaas-mode": "perhaps"}, "infaas-mode"),
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


@pytest.mark.parametrize("path", ["nothing/infer", "mlp/versions/2/infer", "NOT A NAME/infer"])
async def test_infer_unknown_name_is_404(gateway: Running, path: str) -> None:
    async with gateway.http.post(f"{gateway.url}/v2/models/{path}", data=json_body()) as response:
        assert response.status == 404
        assert response.headers["infaas-status"] == "unknown_task"
        await error_of(response)


async def test_infer_system_error_keeps_status(gateway: Running) -> None:
    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Unsatisfiable("the nearest is mlp.onnx-fp32.cpu with accuracy 0.9")

    gateway.responder.answer = refuse
    async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
        assert response.status == 422
        assert "the nearest is" in await error_of(response)


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
        assert "larger" in await error_of(response)


async def test_infer_without_answer_is_504(gateway: Running) -> None:
    gateway.responder.silent = True
    async with gateway.http.post(gateway.infer_url, data=json_body(latency_ms=10)) as response:
        assert response.status == 504
        assert response.headers["infaas-status"] == "deadline_exceeded"
        await error_of(response)
    assert gateway.query_client.in_flight == 0


@pytest.mark.parametrize("wrong_s", [-3600, 0, 3600])
async def test_infer_deadline_uses_clients_clock(gateway: Running, wrong_s: int) -> None:
    now_s = time.time() + wrong_s
    headers = {h.SENT_NS: str(int(now_s * 1e9)), h.DEADLINE_MS: str(int(now_s * 1e3) + 50_000)}
    async with gateway.http.post(gateway.infer_url, data=json_body(), headers=headers) as response:
        assert response.status == 200
    (seen,) = gateway.responder.seen
    assert h.DEADLINE_MS not in seen
    assert float(seen[h.LATENCY_MS]) == pytest.approx(50_000, abs=2)
    assert int(seen[h.SENT_NS]) != int(headers[h.SENT_NS])


async def test_infer_deadline_without_sent_time_is_brokers(gateway: Running) -> None:
    deadline = {h.DEADLINE_MS: str(int(time.time() * 1e3) + 60_000)}
    async with gateway.http.post(gateway.infer_url, data=json_body(), headers=deadline) as response:
        assert response.status == 200
    assert 30_000 < float(gateway.responder.seen[0][h.LATENCY_MS]) < 60_100


async def test_infer_beyond_max_in_flight_is_503(gateway: Running, gateway_settings: GatewaySettings) -> None:
    gateway.responder.silent = True
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(_post(gateway)) for _ in range(gateway_settings.max_in_flight)]
        await gateway.responder.wait_seen(gateway_settings.max_in_flight)
        async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert response.headers[h.REASON] == RefusalReason.IN_FLIGHT_LIMIT
            assert (await response.json())["reason"] == RefusalReason.IN_FLIGHT_LIMIT
            assert "waiting" in await error_of(response)
        for task in waiting:
            task.cancel()


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


async def test_client_disconnect_frees_slot(gateway: Running) -> None:
    gateway.responder.silent = True
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(_post(gateway))
        await gateway.responder.wait_seen(1)
        assert gateway.query_client.in_flight == 1
        gone.cancel()
    await until(lambda: gateway.query_client.in_flight == 0)  # the gateway learns of a closed connection with a delay


async def test_offline_queries_go_to_offline_topic(gateway: Running) -> None:
    for mode, topic in (("offline", offline_topic(gateway.task)), ("online", task_topic(gateway.task))):
        async with gateway.http.post(gateway.infer_url, data=json_body(mode=mode)) as response:
            assert response.status == 200
        assert gateway.responder.topics[-1] == topic


async def test_concurrent_queries_with_same_id_get_own_answers(gateway: Running) -> None:
    gateway.responder.silent = True

    async def ask(factor: int) -> list[float]:
        body = encode_request({"x": X * np.float32(factor)}, binary=False).value
        async with gateway.http.post(gateway.infer_url, data=body, headers={"infaas-id": "same"}) as response:
            assert response.status == 200
            assert response.headers["infaas-id"] == "same"
            return (await response.json())["outputs"][0]["data"]

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(ask(factor)) for factor in (1, 2, 3)]
        await gateway.responder.wait_seen(3)
        await gateway.responder.answer_late()
    assert [task.result() for task in asked] == [[0.0 * f, 2.0 * f, 8.0 * f, 10.0 * f] for f in (1, 2, 3)]


async def _post(gateway: Running, headers: dict[str, str] | None = None) -> None:
    async with gateway.http.post(gateway.infer_url, data=json_body(), headers=headers) as response:
        await response.read()


async def test_statistics_add_up(gateway: Running) -> None:
    for _ in range(3):
        await _post(gateway)
    async with gateway.http.post(gateway.infer_url, data=b"{}"):
        pass
    async with gateway.http.get(f"{gateway.url}/v2/models/{gateway.task}/stats") as response:
        (model,) = (await response.json())["model_stats"]
    counts = {name: pair["count"] for name, pair in model["inference_stats"].items()}
    assert counts == dict.fromkeys(("success", "queue", "compute_input", "compute_infer", "compute_output"), 3) | {
        "fail": 1,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    spent = {name: pair["ns"] for name, pair in model["inference_stats"].items()}
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert spent["success"] == sum(spent[part] for part in parts)
    assert (model["inference_count"], model["execution_count"]) == (6, 3)
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        text = await response.text()
    assert f'infaas_gateway_requests_total{{code="ok",model="{gateway.task}",reason="",version="1"}} 3.0' in text


async def test_concurrent_queries_get_own_answers(gateway: Running) -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(_scaled(gateway, scale)) for scale in range(1, 5)]
    assert [answer.result() for answer in answers] == [2.0 * scale for scale in range(1, 5)]


async def _scaled(gateway: Running, scale: int) -> float:
    body = encode_request({"x": np.full((1, 4), scale, np.float32)}, binary=False).value
    async with gateway.http.post(gateway.infer_url, data=body) as response:
        return json.loads(await response.read())["outputs"][0]["data"][0]


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
