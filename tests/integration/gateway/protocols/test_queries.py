"""Tests of queries over every protocol: results, needs, errors, limits."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from gateway.limits.backoff import HOLD_S
from gateway.settings import GatewaySettings
from schemas import headers as h
from schemas.errors import Overloaded, QueryError, RefusalReason, Unsatisfiable
from schemas.topics import offline_topic, task_topic
from tests.integration.gateway.protocols.clients import Answer, ProtocolClient, Reply, X
from tests.integration.gateway.responder import VARIANT
from tests.integration.gateway.responder import Answer as Answering
from tests.waiting import until

HOUR_S = 3600
RETRY_S = 0.1
REFUSALS = 5
"""Maximum time that a refusal is delayed, in seconds."""
ROUNDED_S = REFUSALS * 1e-3
"""Rounding error in seconds: each announced time is rounded up to a millisecond."""


def failing(error: QueryError) -> Answering:
    def answer(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise error

    return answer


@pytest.mark.parametrize("protocol", ["http", "aiohttp", "grpc"], indirect=True)
async def test_query_returns_result_and_its_headers(client: ProtocolClient) -> None:
    reply = await client.infer(request_id="mine", headers={h.ID: "q-1"})
    assert reply.content == Answer("mine", "digits", [0.0, 2.0, 8.0, 10.0])
    wanted = {h.ID: "q-1", h.STATUS: "ok", h.VARIANT: VARIANT, h.ACCURACY: "0.9", h.COST: "0.001"}
    assert wanted.items() <= reply.headers.items()


async def test_query_needs_become_headers(client: ProtocolClient) -> None:
    needs: dict[str, Any] = {"latency_ms": 25_000, "min_accuracy": 0.5, "max_cost": 1.5, "allow_late": True}
    headers = {h.MIN_ACCURACY: "0.7", "traceparent": "00-a-b-01", h.ID: "q-1", "x-other": "no"}
    assert (await client.infer(headers=headers, mode="online", tenant="acme", **needs)).status == "ok"
    seen = client.gateway.responder.seen[-1]
    wanted = {h.LATENCY_MS: "25000", h.MIN_ACCURACY: "0.7", h.MAX_COST: "1.5", h.ALLOW_LATE: "true", h.TENANT: "acme"}
    wanted |= {
        h.BATCH: "2",
        h.ID: "q-1",
        "traceparent": "00-a-b-01",
        h.REPLY_TO: client.gateway.query_client.reply_topic,
    }
    assert wanted.items() <= seen.items()
    assert "x-other" not in seen


async def test_query_ignores_foreign_parameters_and_headers(client: ProtocolClient) -> None:
    foreign: dict[str, Any] = {"model": "x", "temperature": 0.5, "priority": 0, "sequence_id": 0}
    headers = {h.WORKER: "copied", "infaas-x-of-a-proxy": "yes", "latency": "x"}
    assert (await client.infer(headers=headers, **foreign)).status == "ok"


async def test_query_timeout_parameter_is_latency(client: ProtocolClient) -> None:
    assert (await client.infer(timeout=25_000_000)).status == "ok"
    assert client.gateway.responder.seen[-1][h.LATENCY_MS] == "25000.0"


@pytest.mark.parametrize("name", ["mlp", VARIANT])
async def test_query_of_model_sets_target(client: ProtocolClient, name: str) -> None:
    assert (await client.infer(name, version="1")).content.model == name
    assert client.gateway.responder.seen[-1][h.TARGET] == name


async def test_query_mode_selects_topic(client: ProtocolClient) -> None:
    task = client.gateway.task
    for mode, topic in (("offline", offline_topic(task)), ("online", task_topic(task))):
        assert (await client.infer(mode=mode)).status == "ok"
        assert client.gateway.responder.topics[-1] == topic


@pytest.mark.parametrize("wrong_s", [-HOUR_S, 0, HOUR_S])
async def test_query_deadline_uses_clock_of_client(client: ProtocolClient, wrong_s: int) -> None:
    now_s = time.time() + wrong_s
    headers = {h.SENT_NS: str(int(now_s * 1e9)), h.DEADLINE_MS: str(int(now_s * 1e3) + 50_000)}
    assert (await client.infer(headers=headers)).status == "ok"
    (seen,) = client.gateway.responder.seen
    assert h.DEADLINE_MS not in seen
    assert float(seen[h.LATENCY_MS]) == pytest.approx(50_000, abs=2)
    assert seen[h.SENT_NS] != headers[h.SENT_NS]


async def test_query_deadline_without_sent_time_is_brokers(client: ProtocolClient) -> None:
    assert (await client.infer(headers={h.DEADLINE_MS: str(int(time.time() * 1e3) + 60_000)})).status == "ok"
    assert 30_000 < float(client.gateway.responder.seen[0][h.LATENCY_MS]) < 60_100


@pytest.mark.parametrize(
    ("model", "parameters", "headers", "message"),
    [
        (None, {"min_accuracy": 2}, {}, "parameter min_accuracy must be"),
        (None, {"min_accuracy": 1}, {h.MIN_ACCURACY: "2"}, "header infaas-min-accuracy must be"),
        (None, {"min_acuracy": 0.5}, {}, "'min_acuracy': did you mean min_accuracy?"),
        (None, {"latencyMs": 5}, {}, "did you mean latency_ms?"),
        (None, {}, {"infaas-min-acuracy": "0.5"}, "did you mean infaas-min-accuracy?"),
        (None, {}, {"infaas-fairness": "0.5"}, "no header is called 'infaas-fairness'"),
        (None, {"timeout": "soon"}, {}, "$.parameters.timeout"),
        (None, {}, {h.MODE: "perhaps"}, h.MODE),
        ("mlp", {"target": "other"}, {}, "another target"),
    ],
)
async def test_invalid_query_error_names_fault(
    client: ProtocolClient, model: str | None, parameters: dict[str, Any], headers: dict[str, str], message: str
) -> None:
    reply = await client.infer(model, headers=headers, **parameters)
    assert (reply.status, message in reply.error) == ("invalid_request", True), reply.error
    assert not client.gateway.responder.seen


@pytest.mark.parametrize(("model", "version"), [("nothing", ""), ("mlp", "2"), ("NOT A NAME", "")])
async def test_query_of_unknown_name_is_refused(client: ProtocolClient, model: str, version: str) -> None:
    assert (await client.infer(model, version=version)).status == "unknown_task"


async def test_query_error_keeps_code_reason_and_retry_time(client: ProtocolClient) -> None:
    client.gateway.responder.answer = failing(Unsatisfiable("the nearest is ü"))
    reply = await client.infer()
    assert (reply.status, reply.error) == ("unsatisfiable", "the nearest is ü")
    assert reply.headers[h.REASON] == RefusalReason.NEEDS_UNSATISFIABLE
    assert "retry-after" not in reply.headers
    refusal = Overloaded("full", reason=RefusalReason.INSTANCES_BUSY, retry_after_s=2.5)
    client.gateway.responder.answer = failing(refusal)
    reply = await client.infer()
    assert (reply.status, reply.error) == ("overloaded", "full")
    wanted = {h.REASON: "instances_busy", "retry-after": "3", h.RETRY_AFTER_MS: "2500"}
    assert wanted.items() <= reply.headers.items()


async def test_query_without_result_exceeds_deadline(client: ProtocolClient) -> None:
    client.gateway.responder.silent = True
    reply = await client.infer(latency_ms=10)
    assert (reply.status, reply.headers[h.REASON]) == ("deadline_exceeded", RefusalReason.NO_RESULT)
    assert client.gateway.query_client.in_flight == 0


async def test_query_beyond_max_in_flight_is_refused(client: ProtocolClient, gateway_settings: GatewaySettings) -> None:
    gateway, most = client.gateway, gateway_settings.max_in_flight
    gateway.responder.silent = True
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(client.infer()) for _ in range(most)]
        await gateway.responder.wait_seen(most)
        reply = await client.infer()
        assert (reply.status, reply.headers[h.REASON]) == ("overloaded", RefusalReason.IN_FLIGHT_LIMIT)
        assert (reply.headers["retry-after"], "waiting" in reply.error) == ("1", True)
        for task in waiting:
            task.cancel()
    await until(lambda: gateway.query_client.in_flight == 0)  # the gateway learns of a cancellation with a delay


async def test_queries_with_same_id_get_own_results(client: ProtocolClient) -> None:
    responder = client.gateway.responder
    responder.silent = True
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(client.infer(None, X * np.float32(factor), headers={h.ID: "same"}))
            for factor in (1, 2, 3)
        ]
        await responder.wait_seen(3)
        await responder.answer_late()
    replies = [task.result() for task in asked]
    assert [reply.content.values for reply in replies] == [[0.0 * f, 2.0 * f, 8.0 * f, 10.0 * f] for f in (1, 2, 3)]
    assert {reply.headers[h.ID] for reply in replies} == {"same"}


@pytest.mark.parametrize("protocol", ["http", "aiohttp", "grpc"], indirect=True)
async def test_refusal_of_early_retry_is_held(client: ProtocolClient) -> None:
    client.gateway.responder.answer = failing(Overloaded(retry_after_s=RETRY_S))
    began, named_s = time.monotonic(), 0.0
    for left in reversed(range(REFUSALS)):
        reply = await client.infer()
        assert reply.status == "overloaded"
        named_s += min(float(reply.headers[h.RETRY_AFTER_MS]) / 1e3, HOLD_S) if left else 0.0
    assert named_s - (time.monotonic() - began) < ROUNDED_S


async def test_statistics_split_time_of_queries(client: ProtocolClient) -> None:
    replies: list[Reply] = [await client.infer() for _ in range(3)]
    assert {reply.status for reply in replies} == {"ok"}
    assert (await client.infer(min_accuracy=2)).status == "invalid_request"
    found = (await client.statistics(client.gateway.task))[client.gateway.task]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    counts = {name: count for name, (count, _ns) in found.items()}
    assert counts == dict.fromkeys(("success", *parts), 3) | {"fail": 1, "cache_hit": 0, "cache_miss": 0}
    assert found["success"][1] == sum(found[part][1] for part in parts)
    async with client.gateway.http.get(f"{client.gateway.url}/metrics") as response:
        line = f'infaas_gateway_requests_total{{code="ok",model="{client.gateway.task}",reason="",version="1"}} 3.0'
        assert line in await response.text()
