"""Clients that ask again as soon as they are refused, by each way into a gateway, against one that refuses all."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

import grpc
import grpc.aio
import numpy as np
import pytest

from gateway.grpc.inference_pb2 import ModelInferRequest
from gateway.settings import GatewaySettings
from process.ports import free_port
from schemas import headers as h
from schemas.errors import ErrorCode, Overloaded
from schemas.oip import encode_request
from tests.integration.gateway.conftest import Running

X = np.ones((1, 4), np.float32)
BODY = encode_request({"x": X}, binary=False).value
RETRY_S = 0.1
REFUSALS = 5
LONGEST_S = 0.5
"""For how long a refusal is held at most."""

Asking: TypeAlias = Callable[[Running], Awaitable[Mapping[str, str]]]
"""Asks a query by a connection that is the same each time; returns the headers of its refusal."""


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, grpc_port=free_port())


@pytest.fixture
async def channel(gateway_settings: GatewaySettings) -> AsyncGenerator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway_settings.grpc_port}") as channel:
        yield channel


async def posted(gateway: Running, body: bytes | AsyncIterator[bytes]) -> Mapping[str, str]:
    async with gateway.http.post(gateway.infer_url, data=body) as response:
        await response.read()
        return response.headers


async def called(gateway: Running, channel: grpc.aio.Channel) -> Mapping[str, str]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    request = ModelInferRequest(model_name=gateway.task, inputs=[tensor], raw_input_contents=[X.tobytes()])
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request.SerializeToString())
    return {name: str(text) for name, text in caught.value.trailing_metadata()}


async def in_chunks() -> AsyncGenerator[bytes]:
    yield BODY


async def refused_in_a_row(gateway: Running, ask: Asking) -> float:
    """Ask again and again at once; returns by how many seconds the last refusal came sooner than the others named."""

    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Overloaded(retry_after_s=RETRY_S)

    gateway.responder.answer = refuse
    began, named_s = time.monotonic(), 0.0
    for left in reversed(range(REFUSALS)):
        told = await ask(gateway)
        assert told[h.STATUS] == ErrorCode.OVERLOADED
        named_s += min(float(told[h.RETRY_AFTER_MS]) / 1e3, LONGEST_S) if left else 0.0
    return named_s - (time.monotonic() - began)


ROUNDED_S = REFUSALS * 1e-3
"""What is named is rounded up to milliseconds."""


async def test_over_http_each_refusal_comes_when_the_last_said(gateway: Running) -> None:
    assert await refused_in_a_row(gateway, lambda it: posted(it, BODY)) < ROUNDED_S


async def test_in_chunks_which_aiohttp_answers_it_does_so_too(gateway: Running) -> None:
    assert await refused_in_a_row(gateway, lambda it: posted(it, in_chunks())) < ROUNDED_S


async def test_over_grpc_it_does_so_too(gateway: Running, channel: grpc.aio.Channel) -> None:
    assert await refused_in_a_row(gateway, lambda it: called(it, channel)) < ROUNDED_S
