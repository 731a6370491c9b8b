"""Tests of the synchronous client, through Kafka and through a gateway."""

import asyncio
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from uuid import uuid4

import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from infaas.client import Answer, Internal, InvalidRequest, Overloaded, QueryError, SyncInfaasClient, SystemOptions
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.responder import refuse_three

THREADS, CALLS = 8, 60


@pytest.fixture(params=["kafka", "http"])
def system(request: pytest.FixtureRequest, gateway: Running, kafka: KafkaSettings) -> SystemOptions:
    return {"kafka": kafka} if request.param == "kafka" else {"gateway": gateway.url}


def row(number: float) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 4), number, np.float32)}


async def test_sync_client_answers_each_query_of_many_threads_once(system: SystemOptions, gateway: Running) -> None:
    ids = [[uuid4().hex for _ in range(CALLS)] for _ in range(THREADS)]

    def ask(client: SyncInfaasClient, thread: int) -> list[tuple[str, float]]:
        answers = [
            client.infer(gateway.task, row(thread * 1000 + call), query_id=query_id)
            for call, query_id in enumerate(ids[thread])
        ]
        return [(answer.id, answer.outputs["y"].flat[0] / 2) for answer in answers]

    def ask_all() -> list[list[tuple[str, float]]]:
        with SyncInfaasClient(**system) as client, ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(partial(ask, client), range(THREADS)))

    answered = await asyncio.to_thread(ask_all)
    for thread, found in enumerate(answered):
        assert found == [(query_id, thread * 1000 + call) for call, query_id in enumerate(ids[thread])]
    assert Counter(fields["infaas-id"] for fields in gateway.responder.seen) == Counter(chain(*ids))


async def test_sync_infer_many_keeps_order_errors_and_backpressure(system: SystemOptions, gateway: Running) -> None:
    taken = 0

    def batches() -> Iterator[dict[str, np.ndarray]]:
        nonlocal taken
        for number in range(1, 8):
            taken = number
            yield {} if number == 5 else {"x": np.full((number, 4), number, np.float32)}

    def stream() -> list[Answer | QueryError]:
        with SyncInfaasClient(**system) as client:
            answers: Generator[Answer | QueryError] = client.infer_many(gateway.task, batches(), in_flight=3)
            first = next(answers)
            assert taken == 3
            return [first, *answers]

    gateway.responder.answer = refuse_three
    found = await asyncio.to_thread(stream)
    assert [type(one) for one in (found.pop(4), found.pop(2))] == [InvalidRequest, Overloaded]
    assert [len(answer.outputs["y"]) for answer in found if isinstance(answer, Answer)] == [1, 2, 4, 6, 7]


async def test_sync_client_close_fails_waiting_calls(system: SystemOptions, gateway: Running) -> None:
    gateway.responder.silent = True
    client = SyncInfaasClient(**system)
    waiting = asyncio.create_task(asyncio.to_thread(client.infer, gateway.task, row(1)))
    await gateway.responder.wait_seen(1)
    await asyncio.to_thread(client.close)
    with pytest.raises(Internal, match="closed before the answer came"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        client.infer(gateway.task, row(1))
    await asyncio.to_thread(client.close)
