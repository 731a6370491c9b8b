"""Load over gRPC, with the same output as `http_load`, and the same tensor in the same form.

`python -m bench.throughput.grpc_load grpc://HOST:PORT/TASK SECONDS CALLERS [RATE]` runs it.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import msgspec

from bench.core.figures import percentile
from bench.core.load import small_query
from bench.throughput.http_load import MeasuredLoad
from gateway.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse
from schemas.headers import JSON_LENGTH
from schemas.oip import decode_request
from schemas.tensors import datatype_of, to_binary

_CHANNELS = 8
"""Number of connections; each carries many calls."""


async def run(url: str, seconds: float, callers: int, rate: float = 0.0) -> MeasuredLoad:
    """Load the server as `http_load` does. Returns the result.

    Raises:
        AioRpcError: a call failed.
    """
    address, _, task = url.removeprefix("grpc://").partition("/")
    request, times_ms = _request(task), list[float]()
    async with AsyncExitStack() as stack:
        calls = [await _connected(stack, address) for _ in range(_CHANNELS)]
        started = time.perf_counter()

        async def ask(number: int) -> None:
            due = number / rate if rate else 0.0
            while (now := time.perf_counter() - started) < seconds:
                if due > now:
                    await asyncio.sleep(due - now)
                due += callers / rate if rate else 0.0
                asked = time.perf_counter()
                await calls[number % _CHANNELS](request)
                times_ms.append((time.perf_counter() - asked) * 1e3)

        async with asyncio.TaskGroup() as tasks:
            for number in range(callers):
                tasks.create_task(ask(number))
        elapsed_s = time.perf_counter() - started
    return MeasuredLoad(len(times_ms) / elapsed_s, percentile(times_ms, 0.5), percentile(times_ms, 0.99))


async def _connected(stack: AsyncExitStack, address: str) -> Any:
    channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    await stack.enter_async_context(channel)
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", ModelInferRequest.SerializeToString, ModelInferResponse.FromString
    )


def _request(task: str) -> ModelInferRequest:
    value, headers = small_query()
    request = ModelInferRequest(model_name=task)
    for name, array in decode_request(value, int(dict(headers)[JSON_LENGTH])).inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(to_binary(array))
    return request


if __name__ == "__main__":
    measured = asyncio.run(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:])))
    print(msgspec.json.encode(measured).decode())
