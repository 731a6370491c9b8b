"""Tests of two gateways on one port, with one killed or both overloaded: every query id is answered once."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from typing import Final

import aiohttp
import grpc.aio
import pytest

from gateway.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, page, query
from tests.system.infaas.test_selectors import model_of, register

TASK: Final = "two-gateways"
CLIENTS: Final = 16
CROWD: Final = 200
ASKED: Final = 25
"""Queries of each client, one after the other."""
_AGAIN_S: Final = 0.05


@pytest.fixture(scope="module")
def two(pairs: Cli) -> Cli:
    """Register a model in the system with two gateways."""
    asyncio.run(registered(pairs))
    return pairs


async def registered(cli: Cli) -> None:
    await cli.state()
    await register(cli, TASK)


async def test_killed_gateway_loses_no_query(two: Cli) -> None:
    state = await two.state()
    services = state["services"]
    url, killed = state["gateway"], services["gateway"]["pid"]
    assert (await grpc_query(state["grpc"])).parameters["variant"].string_param.startswith(model_of(TASK))
    answered, progress = Counter[str](), asyncio.Semaphore(0)
    async with asyncio.timeout(PATIENCE_S):
        before = await processes(url)
        async with asyncio.TaskGroup() as asking:
            for number in range(CLIENTS):
                asking.create_task(ask(url, f"client-{number}", answered, progress, keep_alive=number % 2 == 0))
            for _ in range(CLIENTS * ASKED // 4):
                await progress.acquire()
            os.kill(killed, signal.SIGKILL)
    assert answered == Counter(f"client-{one}-{number}" for one in range(CLIENTS) for number in range(ASKED))

    async with asyncio.timeout(PATIENCE_S):
        state = await two.state_when(lambda now: now["services"]["gateway"]["pid"] != killed)
        after = await processes(url)
    assert len(before | after) == 3  # one process lives on, and a new one has replaced the killed one
    healed = state["services"]
    assert [healed[name]["restarts"] - services[name]["restarts"] for name in ("gateway", "gateway-1")] == [1, 0]
    for name in ("gateway", "gateway-1"):  # each has a metrics port of its own
        metrics = await page(healed[name]["metrics"])
        assert sum(f'infaas_gateway_info{{process="{process}"}}' in metrics for process in after) == 1


async def test_overloaded_gateways_answer_each_query_once(two: Cli) -> None:
    state = await two.state()
    metrics = [state["services"][name]["metrics"] for name in ("gateway", "gateway-1")]
    before = [await told_by(url) for url in metrics]
    told, answered = Counter[str](), Counter[str]()
    connector = aiohttp.TCPConnector(limit=CROWD)
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession(connector=connector) as http,
        asyncio.TaskGroup() as asking,
    ):
        for number in range(CROWD):
            asking.create_task(ask_in_a_hurry(http, state["gateway"], f"hurried-{number}", told, answered))
    assert answered == Counter(f"hurried-{one}-{number}" for one in range(CROWD) for number in range(ASKED))
    assert told.keys() <= {"ok", "overloaded", "deadline_exceeded"}
    assert told["overloaded"] > 0
    counted = [await told_by(url) - already for url, already in zip(metrics, before, strict=True)]
    assert all(one.total() for one in counted), "one of the two was asked nothing"
    assert sum(counted, Counter[str]()) == told


async def ask_in_a_hurry(
    http: aiohttp.ClientSession, url: str, name: str, told: Counter[str], answered: Counter[str]
) -> None:
    """Send queries one after the other, with a latency that the system cannot meet for all clients."""
    for number in range(ASKED):
        headers = {"infaas-id": f"{name}-{number}", "infaas-latency-ms": "20"}
        async with http.post(f"{url}/v2/models/{model_of(TASK)}/infer", data=query(), headers=headers) as answer:
            await answer.read()
            told[answer.headers["infaas-status"]] += 1
            if answer.status == 200:
                assert answer.headers["infaas-id"] == headers["infaas-id"]
            answered[headers["infaas-id"]] += 1


async def told_by(metrics: str) -> Counter[str]:
    """Return the number of the model's queries that a gateway has answered, by status."""
    line = rf'infaas_gateway_requests_total{{code="(\w+)",model="{model_of(TASK)}",reason="\w*",version="1"}} (\S+)'
    found = Counter[str]()
    for status, count in re.findall(line, await page(metrics)):
        found[status] += int(float(count))
    return found


async def ask(url: str, name: str, answered: Counter[str], progress: asyncio.Semaphore, *, keep_alive: bool) -> None:
    """Send queries one after the other; retry a failed one on another connection under the same id."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=not keep_alive)) as http:
        for number in range(ASKED):
            query_id = f"{name}-{number}"
            while not answered[query_id]:
                try:
                    async with http.post(
                        f"{url}/v2/models/{model_of(TASK)}/infer", data=query(), headers={"infaas-id": query_id}
                    ) as answer:
                        assert (answer.status, answer.headers["infaas-id"]) == (200, query_id), await answer.text()
                        answered[query_id] += 1
                        progress.release()
                except aiohttp.ClientError:
                    await asyncio.sleep(_AGAIN_S)  # back-off before the retry


async def grpc_query(address: str) -> ModelInferResponse:
    """Return the answer to the same query over gRPC."""
    (tensor,) = json.loads(query())["inputs"]
    contents = {"fp32_contents": tensor.pop("data")}
    request = ModelInferRequest(model_name=model_of(TASK), inputs=[{**tensor, "contents": contents}])
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return ModelInferResponse.FromString(await call(request.SerializeToString(), timeout=PATIENCE_S))


async def processes(url: str) -> set[str]:
    """Return the names of the two processes behind the port, found by repeated connections."""
    found: set[str] = set()
    while len(found) < 2:
        async with aiohttp.request("GET", f"{url}/v2/models/stats") as response:
            found.add(response.headers["infaas-gateway"])
    return found
