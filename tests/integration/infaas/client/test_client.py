"""Tests of the client through Kafka and through a gateway."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest
from numpy.typing import ArrayLike
from prometheus_client import REGISTRY

from broker.kafka.settings import KafkaSettings
from infaas.client import Answer, InfaasClient
from schemas.errors import DeadlineExceeded, InvalidRequest, Overloaded, QueryError, UnknownTask, Unsatisfiable
from schemas.topics import offline_topic
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.responder import VARIANT, refuse_three
from tests.waiting import PATIENCE_S, until

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize("json", [False, True])
async def test_infer_returns_answer(client: InfaasClient, gateway: Running, json: bool) -> None:
    answer = await client.infer(gateway.task, {"x": X}, json=json)
    assert answer.outputs["y"].tolist() == (X[:, :2] * 2).tolist()
    assert (answer.variant, answer.worker, answer.accuracy, answer.cost) == (VARIANT, "cpu-0", 0.9, 0.001)
    assert (answer.queue_ms, answer.compute_ms, answer.predicted_ms) == (0.003, 0.003, 0.004)
    assert answer.total_ms > 0


async def test_infer_sends_needs_as_headers(client: InfaasClient, gateway: Running) -> None:
    await client.infer(
        gateway.task,
        {"x": X},
        latency_ms=5000,
        min_accuracy=0.5,
        max_cost=2,
        target="mlp",
        mode="offline",
        allow_late=True,
        explain=True,
        tenant="acme",
        query_id="mine",
        traceparent="00-a-b-01",
    )
    seen = gateway.responder.seen[-1]
    expected = {
        "infaas-id": "mine",
        "infaas-batch": "2",
        "infaas-latency-ms": "5000",
        "infaas-min-accuracy": "0.5",
        "infaas-max-cost": "2",
        "infaas-target": "mlp",
        "infaas-mode": "offline",
        "infaas-allow-late": "true",
        "infaas-explain": "true",
        "infaas-tenant": "acme",
        "traceparent": "00-a-b-01",
    }
    assert {name: seen[name] for name in expected} == expected
    assert gateway.responder.topics[-1] == offline_topic(gateway.task)


async def test_infer_raises_error_of_its_class(client: InfaasClient, gateway: Running) -> None:
    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Unsatisfiable("the nearest is mlp")

    gateway.responder.answer = refuse
    with pytest.raises(Unsatisfiable, match="the nearest is mlp"):
        await client.infer(gateway.task, {"x": X})


async def test_infer_marks_late_answer(client: InfaasClient, gateway: Running) -> None:
    late = await client.infer(gateway.task, {"x": X}, latency_ms=0.001, allow_late=True)
    assert late.late
    assert not (await client.infer(gateway.task, {"x": X}, latency_ms=600_000)).late
    assert not (await client.infer(gateway.task, {"x": X})).late


async def test_gateway_marks_late_answer(gateway: Running) -> None:
    for latency_ms, expected in ((0.001, "true"), (600_000, None)):
        query = {
            "parameters": {"latency_ms": latency_ms, "allow_late": True},
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
        }
        async with gateway.http.post(gateway.infer_url, json=query) as response:
            assert response.status == 200
            assert response.headers.get("infaas-late") == expected


async def test_infer_of_unknown_task_fails(gateway: Running, kafka: KafkaSettings) -> None:
    async with InfaasClient(gateway=gateway.url) as client:
        with pytest.raises(UnknownTask, match="absent"):
            await client.infer("absent", {"x": X})
    async with InfaasClient(kafka=kafka) as client:
        await client.infer(gateway.task, {"x": X})
        for _ in range(2):  # the second call uses the cached answer
            with pytest.raises(UnknownTask, match="absent"):
                await client.infer("absent", {"x": X})


async def test_infer_without_answer_times_out(client: InfaasClient, gateway: Running) -> None:
    gateway.responder.silent = True
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        await client.infer(gateway.task, {"x": X}, timeout_s=0.1)


async def test_infer_refuses_unsupported_inputs(client: InfaasClient, gateway: Running) -> None:
    with pytest.raises(InvalidRequest, match="complex128"):
        await client.infer(gateway.task, {"x": np.zeros(1, np.complex128)})
    with pytest.raises(InvalidRequest, match="at least one input"):
        await client.infer(gateway.task, {})


async def test_infer_matches_thousand_concurrent_answers(client: InfaasClient, gateway: Running) -> None:
    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(client.infer(gateway.task, {"x": np.full((1, 4), number, np.float32)}))
            for number in range(1000)
        ]
    assert [call.result().outputs["y"][0, 0] for call in calls] == [2.0 * number for number in range(1000)]


async def test_infer_many_keeps_order_and_errors(client: InfaasClient, gateway: Running) -> None:
    async def batches() -> AsyncGenerator[dict[str, ArrayLike]]:
        for number in range(1, 8):
            yield {"x": np.full((number, 4), number, np.float32)}

    gateway.responder.answer = refuse_three
    found: list[Answer | QueryError] = [
        answer async for answer in client.infer_many(gateway.task, batches(), in_flight=3)
    ]
    refusal = found.pop(2)
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_s == 0.25
    assert [answer.outputs["y"].shape[0] for answer in found if isinstance(answer, Answer)] == [1, 2, 4, 5, 6, 7]


async def test_infer_many_applies_backpressure(client: InfaasClient, gateway: Running) -> None:
    taken: list[int] = []

    def batches() -> AsyncGenerator[dict[str, ArrayLike]]:
        async def take() -> AsyncGenerator[dict[str, ArrayLike]]:
            for number in range(100):
                taken.append(number)
                yield {"x": X}

        return take()

    stream = client.infer_many(gateway.task, batches(), in_flight=5)
    await anext(stream)
    assert len(taken) == 5
    await stream.aclose()


async def test_infer_ignores_duplicate_answers(gateway: Running, kafka: KafkaSettings) -> None:
    """The responder answers each query twice, as the system may after a crash."""

    def dropped() -> float:
        return REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": "duplicate"}) or 0.0

    async with InfaasClient(kafka=kafka) as client:
        before, gateway.responder.repeat = dropped(), 2
        first = await client.infer(gateway.task, {"x": X}, query_id="same")
        again = await client.infer(gateway.task, {"x": X * 2}, query_id="other")
        assert first.outputs["y"][1, 1] * 2 == again.outputs["y"][1, 1]
        await until(lambda: dropped() == before + 2)


async def test_infer_waits_at_max_in_flight(gateway: Running, kafka: KafkaSettings) -> None:
    """Another client's query comes after all queries that the first client sends before an answer."""
    gateway.responder.silent = True
    async with (
        asyncio.timeout(PATIENCE_S),
        InfaasClient(kafka=kafka, max_in_flight=2) as client,
        InfaasClient(kafka=kafka) as other,
        asyncio.TaskGroup() as tasks,
    ):
        calls = [tasks.create_task(client.infer(gateway.task, {"x": X}, query_id=f"q-{n}")) for n in range(20)]
        await gateway.responder.wait_seen(2)
        calls.append(tasks.create_task(other.infer(gateway.task, {"x": X}, query_id="other")))
        await gateway.responder.wait_seen(3)
        assert {fields["infaas-id"] for fields in gateway.responder.seen} == {"q-0", "q-1", "other"}
        await gateway.responder.answer_late()
    assert all(call.result().outputs for call in calls)


async def test_client_accepts_v2_url_of_gateway(gateway: Running) -> None:
    async with InfaasClient(gateway=f"{gateway.url}/v2/") as client:
        assert (await client.infer(gateway.task, {"x": X})).variant == VARIANT
    async with InfaasClient(gateway=f"{gateway.url}/elsewhere") as client:
        with pytest.raises(InvalidRequest, match="/elsewhere/v2/models"):
            await client.infer(gateway.task, {"x": X})
