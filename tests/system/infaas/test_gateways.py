"""Two gateways on one port, one killed or both asked for too much: every id is answered, as clients not ours count."""

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
from tests.system.infaas.plain_client import PATIENCE_S, query
from tests.system.infaas.test_selectors import model_of, register

pytestmark = pytest.mark.timeout(400)
TASK: Final = "two-gateways"
CLIENTS: Final = 16
CROWD: Final = 200
ASKED: Final = 25
"""Queries of each client, one after the other."""
_AGAIN_S: Final = 0.05


async def test_one_of_two_gateways_is_killed_and_no_query_is_lost(cli: Cli) -> None:
    async with cli.up("--gateways=2"):
        state = await cli.json("status", "--wait")
        await register(cli, TASK)
        url, killed = state["gateway"], state["services"]["gateway"]["pid"]
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
            while (await cli.json("status", "--wait"))["services"]["gateway"]["pid"] == killed:
                pass
            after = await processes(url)
        assert len(before | after) == 3  # one lives on, and another has taken the place of the killed one
        healed = (await cli.json("status"))["services"]
        assert (healed["gateway"]["restarts"], healed["gateway-1"]["restarts"]) == (1, 0)
        for name in ("gateway", "gateway-1"):  # each has a port of its own that says how it is
            metrics = await text(healed[name]["metrics"])
            assert sum(f'infaas_gateway_info{{process="{process}"}}' in metrics for process in after) == 1


async def test_two_gateways_that_are_asked_for_too_much_tell_every_query_once_what_became_of_it(cli: Cli) -> None:
    async with cli.up("--gateways=2"):
        state = await cli.json("status", "--wait")
        await register(cli, TASK)
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
                asking.create_task(ask_in_a_hurry(http, state["gateway"], f"client-{number}", told, answered))
        assert answered == Counter(f"client-{one}-{number}" for one in range(CROWD) for number in range(ASKED))
        assert told.keys() <= {"ok", "overloaded", "deadline_exceeded"}
        assert told["overloaded"] > 0
        counted = [await told_by(url) - already for url, already in zip(metrics, before, strict=True)]
        assert all(one.total() for one in counted), "one of the two was asked nothing"
        assert sum(counted, Counter[str]()) == told


async def ask_in_a_hurry(
    http: aiohttp.ClientSession, url: str, name: str, told: Counter[str], answered: Counter[str]
) -> None:
    """Ask one query after the other, each to be answered sooner than so many of them can be."""
    for number in range(ASKED):
        headers = {"infaas-id": f"{name}-{number}", "infaas-latency-ms": "20"}
        async with http.post(f"{url}/v2/models/{model_of(TASK)}/infer", data=query(), headers=headers) as answer:
            await answer.read()
            told[answer.headers["infaas-status"]] += 1
            if answer.status == 200:
                assert answer.headers["infaas-id"] == headers["infaas-id"]
            answered[headers["infaas-id"]] += 1


async def told_by(metrics: str) -> Counter[str]:
    """How many queries of the model a gateway has told what, by status."""
    line = rf'infaas_gateway_requests_total{{code="(\w+)",model="{model_of(TASK)}",version="1"}} (\S+)'
    found = re.findall(line, await text(metrics))
    return Counter({status: int(float(count)) for status, count in found})


async def ask(url: str, name: str, answered: Counter[str], progress: asyncio.Semaphore, *, keep_alive: bool) -> None:
    """Ask one query after the other; what is not answered is asked again on another connection under the same id."""
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
                    await asyncio.sleep(_AGAIN_S)  # the pace of who asks again


async def grpc_query(address: str) -> ModelInferResponse:
    """The answer to the same query over gRPC."""
    (tensor,) = json.loads(query())["inputs"]
    contents = {"fp32_contents": tensor.pop("data")}
    request = ModelInferRequest(model_name=model_of(TASK), inputs=[{**tensor, "contents": contents}])
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return ModelInferResponse.FromString(await call(request.SerializeToString(), timeout=PATIENCE_S))


async def processes(url: str) -> set[str]:
    """Names of the two processes behind the port, found by as many connections as it takes."""
    found: set[str] = set()
    while len(found) < 2:
        async with aiohttp.request("GET", f"{url}/v2/models/stats") as response:
            found.add(response.headers["infaas-gateway"])
    return found


async def text(url: str) -> str:
    async with aiohttp.request("GET", url) as response:
        return await response.text()
