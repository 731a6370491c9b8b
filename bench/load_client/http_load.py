"""Wrapper of the compiled HTTP client: compiles it at the first use, runs it, and reads its JSON report."""

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
"""Seconds that the client may take beyond the run and its drain."""


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
        """Queries that the server answered with another status than 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


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
