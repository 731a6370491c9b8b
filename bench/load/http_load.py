"""Load over HTTP and gRPC: by a compiled client, which costs little CPU, or by the clients in Python.

`HttpLoad` wraps the compiled client: compiles it at the first use, runs it, and reads its JSON report. It speaks plain
HTTP only. `load_url` runs a client in Python in a process of its own, over HTTPS or gRPC, or over HTTP to compare with
these: `python -m bench.load.http_load URL SECONDS CALLERS RATE`. Without a rate, each caller sends its next request as
soon as it gets an answer, which measures the capacity of the server. With a rate, the callers together send that many
per second, which measures the cost of an answer without queueing.
"""

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc.aio
import msgspec
import uvloop

from bench.core.figures import percentile
from bench.core.programs import run_program
from bench.load.http_message import HttpRequest, SampledAnswer, read_samples
from bench.load.pace import small_query
from gateway.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse
from infaas.client import ClientTls
from schemas.errors import DeadlineExceeded, OperatorError
from schemas.headers import JSON_LENGTH
from schemas.oip import decode_request
from schemas.tensors import datatype_of, to_binary

_SOURCES: Final = Path(__file__).parent
_COMPILE_S: Final = 120.0
_ACCEPTED: Final = (200, DeadlineExceeded.http_status)
_GRACE_S: Final = 10.0
"""Seconds that the client may take beyond the run and its drain."""
_CHANNELS: Final = 8
"""Number of gRPC connections; each carries many calls."""
_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"

Ask = Callable[[int], Awaitable[None]]
"""Sends one query of the caller with this number."""


class RequestTally(msgspec.Struct, frozen=True):
    """Counts of the queries of one request."""

    sent: int
    answered: int
    in_time: int


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report of a load; latencies are of the queries answered with 200, measured from their due time."""

    sent: int
    answered: int
    in_time: int
    statuses: dict[int, int]
    """Answers by HTTP status."""
    broken: int
    """Queries whose connection ended before the answer."""
    unanswered: int
    """Queries without an answer at the end of the drain."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    elapsed_s: float
    cpu_s: float
    """CPU time of the client itself."""
    lag_p99_ms: float
    """Delay of a send after its due time, if a connection was free."""
    connections: int
    kinds: list[RequestTally]
    """Counts by request, in the given order."""

    @property
    def share_in_time(self) -> float:
        """Queries answered in time over those sent."""
        return self.in_time / max(self.sent, 1)

    @property
    def refused(self) -> int:
        """Queries that the server answered with an error, other than a passed deadline: such a query is late."""
        return sum(count for status, count in self.statuses.items() if status not in _ACCEPTED)


class LoadShape(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of a load: an open loop if it has a rate, or else a closed loop of `connections` connections."""

    seconds: float
    connections: int
    rate: float = 0.0
    """Mean queries per second; 0: a closed loop."""
    objective_ms: float = 0.0
    """Latency up to which an answer is in time; 0: any."""
    seed: int = 1
    drain_s: float = 2.0
    """Seconds to wait for the last answers."""


@asynccontextmanager
async def compiled_client() -> AsyncGenerator[Path]:
    """Compile the client into a temporary folder. Yields the program."""
    with tempfile.TemporaryDirectory(prefix="infaas-client-") as folder:
        yield await compile_client(Path(folder))


async def compile_client(cache: Path) -> Path:
    """Compile the client into a folder, once for each state of its sources. Returns the program.

    Raises:
        OperatorError: there is no C++ compiler, or it rejects the sources.
    """
    sources = sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.hpp")])
    state = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    program = cache / f"load-{state}"
    if program.exists():
        return program
    await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
    partial = program.with_suffix(".partial")
    command = ["c++", "-std=c++17", "-O2", "-o", str(partial), str(_SOURCES / "load.cpp")]
    try:
        compiled = await run_program(*command, timeout_s=_COMPILE_S)
    except FileNotFoundError:
        raise OperatorError("the load client needs a C++ compiler: install one that is called c++") from None
    if compiled.code:
        raise OperatorError(f"the load client does not compile: {compiled.errors.decode()[-2000:]}")
    partial.rename(program)
    return program


class HttpLoad:
    """Load on one port of this machine, of randomly drawn requests; requests do not wait for earlier answers."""

    def __init__(self, program: Path, port: int, requests: Sequence[HttpRequest]) -> None:
        self._program = program
        self._port = port
        self._requests = requests
        self.samples: list[SampledAnswer] = []
        """Sampled answers of the last run."""

    async def run(self, shape: LoadShape) -> LoadReport:
        """Run the load. Returns the client's report.

        Raises:
            RuntimeError: the client failed.
        """
        with tempfile.TemporaryDirectory(prefix="infaas-load-") as name:
            folder = Path(name)
            samples = folder / "samples"
            command = [str(self._program), "--port", str(self._port), "--samples", str(samples), *_flags(shape)]
            for number, request in enumerate(self._requests):
                file = folder / f"request-{number}"
                file.write_bytes(request.message())
                command += ["--request", str(file)]
            report = await _run(command, shape.seconds + shape.drain_s + _GRACE_S)
            self.samples = list(read_samples(samples.read_bytes()))
        return report


def _flags(shape: LoadShape) -> list[str]:
    values = {
        "seconds": shape.seconds,
        "connections": shape.connections,
        "rate": shape.rate,
        "objective-ms": shape.objective_ms,
        "seed": shape.seed,
        "drain": shape.drain_s,
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


async def _run(command: Sequence[str], timeout_s: float) -> LoadReport:
    ended = await run_program(*command, timeout_s=timeout_s)
    if ended.code:
        raise RuntimeError(ended.errors.decode().strip())
    return msgspec.json.decode(ended.output, type=LoadReport, strict=False)


# -- the clients in Python ---------------------------------------------------------------------------------------------


class MeasuredLoad(msgspec.Struct, frozen=True):
    """Result of a load by a client in Python."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def load_url(
    url: str, seconds: float, callers: int, rate: float = 0.0, env: Mapping[str, str] = {}
) -> MeasuredLoad:
    """Load a server from a separate process; over HTTPS it trusts the CA in INFAAS_GATEWAY_CA.

    Raises:
        RuntimeError: a query was not answered with success.
    """
    command = (sys.executable, "-m", "bench.load.http_load", url, str(seconds), str(callers), str(rate))
    ended = await run_program(*command, timeout_s=seconds + 10 * _GRACE_S, env={**os.environ, **env})
    if ended.code:
        raise RuntimeError(f"the load on {url} failed: {ended.errors.decode()[-2000:]}")
    return msgspec.json.decode(ended.output, type=MeasuredLoad)


async def _call(url: str, seconds: float, callers: int, rate: float) -> MeasuredLoad:
    """Let all callers send queries for `seconds`. Returns the result."""
    times_ms: list[float] = []
    async with (_grpc_calls if url.startswith("grpc:") else _http_calls)(url, callers) as ask:
        started = time.perf_counter()

        async def send(caller: int) -> None:
            due = caller / rate if rate else 0.0
            while (now := time.perf_counter() - started) < seconds:
                if due > now:
                    await asyncio.sleep(due - now)
                due += callers / rate if rate else 0.0
                asked = time.perf_counter()
                await ask(caller)
                times_ms.append((time.perf_counter() - asked) * 1e3)

        async with asyncio.TaskGroup() as tasks:
            for caller in range(callers):
                tasks.create_task(send(caller))
        elapsed_s = time.perf_counter() - started
    return MeasuredLoad(len(times_ms) / elapsed_s, percentile(times_ms, 0.5), percentile(times_ms, 0.99))


@asynccontextmanager
async def _http_calls(url: str, callers: int) -> AsyncGenerator[Ask]:
    value, raw_headers = small_query()
    headers = {name: text.decode() for name, text in raw_headers}
    connector = aiohttp.TCPConnector(limit=callers, ssl=ClientTls().context() if url.startswith("https:") else True)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

        async def ask(_caller: int) -> None:
            async with http.post(url, data=value) as response:
                body = await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {body[:200].decode(errors='replace')}")

        yield ask


@asynccontextmanager
async def _grpc_calls(url: str, _callers: int) -> AsyncGenerator[Ask]:
    """Open channels to `grpc://HOST:PORT/TASK`."""
    address, _, task = url.removeprefix("grpc://").partition("/")
    request = _grpc_request(task)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        calls: list[Any] = []
        for _ in range(_CHANNELS):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
            calls.append(
                channel.unary_unary(_METHOD, ModelInferRequest.SerializeToString, ModelInferResponse.FromString)
            )

        async def ask(caller: int) -> None:
            await calls[caller % _CHANNELS](request)

        yield ask


def _grpc_request(task: str) -> ModelInferRequest:
    """Return the same tensors in the same form as over HTTP."""
    value, headers = small_query()
    request = ModelInferRequest(model_name=task)
    for name, array in decode_request(value, int(dict(headers)[JSON_LENGTH])).inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(to_binary(array))
    return request


if __name__ == "__main__":
    measured = uvloop.run(_call(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    print(msgspec.json.encode(measured).decode())
