"""Compiles the client when it is first asked for, runs it, and reads the JSON that it prints."""

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.core.programs import run_program
from bench.load_client.http_message import HttpRequest, SampledAnswer, read_samples
from schemas.errors import OperatorError

_SOURCES: Final = Path(__file__).parent
_COMPILE_S: Final = 120.0
_GRACE_S: Final = 10.0
"""Time that the client may take beyond the run and its drain."""


class RequestTally(msgspec.Struct, frozen=True):
    """What became of the queries of one request."""

    sent: int
    answered: int
    in_time: int


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load saw; latencies are of the queries answered with 200, from when each was due."""

    sent: int
    answered: int
    in_time: int
    statuses: dict[int, int]
    """Answers by HTTP status."""
    broken: int
    """Queries whose connection ended before the answer."""
    unanswered: int
    """Queries without an answer when the client gave up."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    elapsed_s: float
    cpu_s: float
    """CPU time of the client itself."""
    lag_p99_ms: float
    """How late the client sent what was due, where a connection was free."""
    connections: int
    kinds: list[RequestTally]
    """By request, in the order they were given."""

    @property
    def share_in_time(self) -> float:
        """Queries answered in time over those sent."""
        return self.in_time / max(self.sent, 1)

    @property
    def refused(self) -> int:
        """Queries that the server answered, but not with 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


class LoadShape(msgspec.Struct, frozen=True, kw_only=True):
    """How a load asks: a closed loop of so many connections, or an open one where there is a rate."""

    seconds: float
    connections: int
    rate: float = 0.0
    """Queries a second on average; 0: a closed loop."""
    objective_ms: float = 0.0
    """Latency up to which an answer is in time; 0: any."""
    seed: int = 1
    drain_s: float = 2.0
    """Time that the last answers may take."""


async def compile_client(cache: Path) -> Path:
    """Compile the client into a folder, once for each state of its sources; returns the program.

    Raises:
        OperatorError: there is no C++ compiler, or it does not take the sources.
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
    """Load on one port of this machine, of some requests that are drawn at random; an answer is never waited for."""

    def __init__(self, program: Path, port: int, requests: Sequence[HttpRequest]) -> None:
        self._program = program
        self._port = port
        self._requests = requests
        self.samples: list[SampledAnswer] = []
        """Answers kept of the last run."""

    async def run(self, shape: LoadShape) -> LoadReport:
        """Ask; returns what was seen.

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
