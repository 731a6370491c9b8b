"""Tests of paced refusals: clients that retry immediately, over each protocol, against an overloaded gateway."""

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
"""Maximum time that a refusal is held, in seconds."""

Asking: TypeAlias = Callable[[Running], Awaitable[Mapping[str, str]]]
"""Sends a query, always on the same connection; returns the headers of its refusal."""


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
    """Retry without waiting; return the seconds by which the last refusal came before the announced time."""

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
"""Rounding error in seconds: each announced time is rounded up to a millisecond."""


async def test_http_refusal_waits_announced_time(gateway: Running) -> None:
    assert await refused_in_a_row(gateway, lambda it: posted(it, BODY)) < ROUNDED_S


async def test_aiohttp_refusal_waits_announced_time(gateway: Running) -> None:
    assert await refused_in_a_row(gateway, lambda it: posted(it, in_chunks())) < ROUNDED_S


async def test_grpc_refusal_waits_announced_time(gateway: Running, channel: grpc.aio.Channel) -> None:
    assert await refused_in_a_row(gateway, lambda it: called(it, channel)) < ROUNDED_S
