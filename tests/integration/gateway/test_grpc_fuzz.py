"""Test of the gRPC service by fuzzing: each message gets an answer or a client error."""

import asyncio
import os
from collections import Counter
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from gateway.settings import GatewaySettings
from process.sockets import free_port
from schemas.errors import InvalidRequest
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.responder import VARIANT, doubled
from tests.protobuf_messages import messages

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
EXAMPLES = int(os.environ.get("GRPC_FUZZ_EXAMPLES", "12"))
"""Messages per method."""
DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, grpc_port=free_port(), max_body_bytes=64 * 1024, wait_s=20)


def careful(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
    """Answer as a worker does: validate the request against the model's signature."""
    try:
        return doubled(fields, value)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InvalidRequest(f"not the model's inputs: {error}") from None


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def drawn(method: Any, task: str) -> list[bytes]:
    """Draw messages for a method: some of its type, some arbitrary bytes."""
    found = list[bytes]()
    names = ["", task, VARIANT, "mlp", "empty", "x", "y", "1", "FP32", "BYTES", "INT8", "latency_ms", "timeout"]
    structured = messages(method.input_type, st.sampled_from(names) | st.text(max_size=20))

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=SLOW)
    @given(structured.map(lambda one: one.SerializeToString()) | st.binary(max_size=200))
    def draw(content: bytes) -> None:
        found.append(content)

    draw()
    return found


async def answered(channel: grpc.aio.Channel, method: Any, content: bytes) -> str:
    """Return the status code of a message's answer; fail if it is one of `DEFECTS`."""
    path = f"/{SERVICE.full_name}/{method.name}"
    try:
        if method.client_streaming:
            stream = channel.stream_stream(path)(iter([content]), timeout=60)
            assert len([answer async for answer in stream]) == 1, "each request of a stream has its answer"
        else:
            await channel.unary_unary(path)(content, timeout=60)
        return "OK"
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details()
    assert code not in DEFECTS, f"{method.name} {content!r}: {code} {details}"
    assert details, f"{method.name}: no word about {code}"
    return code.name


async def test_grpc_fuzz_finds_no_server_error(
    gateway: Running, gateway_settings: GatewaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.responder.answer = careful
    codes = Counter[str]()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway_settings.grpc_port}") as channel:
        for method in SERVICE.methods:
            contents = drawn(method, gateway.task)
            codes.update(await asyncio.gather(*(answered(channel, method, content) for content in contents)))
    print(dict(codes), sum(codes.values()))
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"} <= codes.keys()
    assert gateway.query_client.in_flight == 0
    errors = {record.name for record in caplog.records if record.levelname == "ERROR"}
    assert errors <= {"process.outages"}, "there is no Postgres here"
