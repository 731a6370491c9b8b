"""Survival of jobs: `python -m tests.chaos.jobs [--jobs N]`.

A system with two processes of each service on Apache Kafka accepts N jobs. While they run, every process is killed at
once, including Kafka and Postgres. The system is started again in the same folder, and each job must have its own
answer; the exit code is 0 only then.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import msgspec
import psutil
from rich.console import Console

from bench.core.system import SystemUnderTest, infaas, running_at
from store.pool import Pool, open_pool
from tests.chaos.site import send, with_children
from zoo.samples import DATA, labelled

TASK: Final = "digits"
MODEL: Final = "digits_linear.onnx"
_A_REQUEST: Final = 5000
_AT_ONCE: Final = 32
_ANSWERED_S: Final = 600.0
_LOOK_S: Final = 0.02
"""Short, because thousands of jobs end within a second of the first."""
_GONE_S: Final = 30.0
_BY_STATE: Final = "SELECT state, count(*) AS jobs FROM jobs GROUP BY state"


class _Count(msgspec.Struct):
    state: str
    jobs: int


class SurvivalReport(NamedTuple):
    """Result of the run."""

    asked: int
    in_flight: int
    """Jobs that had not ended at the kill."""
    kept_s: float
    """Seconds until all jobs were accepted."""
    up_s: float
    """Seconds from the kill until the system was ready again."""
    answered_s: float
    """Seconds from then until all jobs had ended."""
    states: dict[str, int]
    wrong: int
    """Jobs whose result is missing, or belongs to another job."""

    @property
    def passed(self) -> bool:
        """True if every job has its answer."""
        return self.states == {"succeeded": self.asked} and not self.wrong


def main() -> None:
    """Parse the command line, run, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.jobs")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument(
        "--of-each", type=int, default=2, help="processes of each service; there are always two jobs services"
    )
    arguments = parser.parse_args()
    console = Console(stderr=True)
    report = asyncio.run(survive(arguments.jobs, arguments.of_each, console))
    print(json.dumps(report._asdict()))
    sys.exit(not report.passed)


async def survive(count: int, of_each: int, console: Console) -> SurvivalReport:
    """Submit jobs, kill everything, start it again, and check each job."""
    flags = services_of(of_each)
    with tempfile.TemporaryDirectory(prefix="infaas-jobs-") as folder:
        home = Path(folder) / "home"
        async with running_at(home, "apache", flags=flags) as system:
            words = (f"--task={TASK}", "--accuracy=0.9", "--variant=onnx-fp32")  # one is enough
            await infaas(home, "register", str(DATA / MODEL), *words)
            began = time.monotonic()
            ids = await _submit(system, count)
            kept_s = time.monotonic() - began
            states = await _states_when(system, lambda states: states.get("succeeded", 0) > 0)
            console.log(f"{count} jobs kept in {kept_s:.1f} s; killing all processes with {states}")
            await kill_all(system)
        killed = time.monotonic()
        async with running_at(home, "apache", flags=flags) as system:
            up_s = time.monotonic() - killed
            console.log(f"up again after {up_s:.1f} s")
            began, in_flight = time.monotonic(), states.get("queued", 0) + states.get("running", 0)
            states = await _states_when(system, lambda states: not states.keys() & {"queued", "running"})
            answered_s = time.monotonic() - began
            console.log(f"all ended {answered_s:.1f} s later: {states}; reading the results")
            wrong = await _wrong(system, ids)
            await kill_all(system)  # a normal shutdown would only take time
    return SurvivalReport(count, in_flight, kept_s, up_s, answered_s, states, wrong)


def services_of(of_each: int) -> list[str]:
    """Return the flags of a system with `of_each` processes of each service, and two jobs services."""
    services = [f"--{name}={of_each}" for name in ("selectors", "gateways", "autoscalers", "workers")]
    return ["--jobs=2", *services, "--cores-per-worker=1", "--oversubscribe"]


def _bodies(count: int) -> list[bytes]:
    """Return requests with distinct ids."""
    inputs, _ = labelled(TASK)
    ((name, rows),) = inputs.items()
    found = list[bytes]()
    for number in range(count):
        row = rows[number % len(rows)]
        tensor = {"name": name, "shape": [1, *row.shape], "datatype": "FP32", "data": row.ravel().tolist()}
        found.append(json.dumps({"id": str(number), "inputs": [tensor]}).encode())
    return found


async def _submit(system: SystemUnderTest, count: int) -> list[str]:
    """Submit jobs, many per request. Returns their ids in the order of their bodies."""
    ids, bodies = list[str](), _bodies(count)
    headers = {"Content-Type": "application/x-ndjson"}
    async with aiohttp.ClientSession() as http:
        for start in range(0, count, _A_REQUEST):
            body = b"\n".join(bodies[start : start + _A_REQUEST])
            async with http.post(_url(system), data=body, headers=headers) as answer:
                content = await answer.json()
                if answer.status != HTTPStatus.ACCEPTED:
                    raise RuntimeError(f"jobs were not stored: {content}")
                ids += content["ids"]
    return ids


async def _states_when(system: SystemUnderTest, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Wait until `holds` is true for the number of jobs by state. Returns these numbers."""
    async with asyncio.timeout(_ANSWERED_S), open_pool(system.postgres, max_size=1) as pool:
        while not holds(states := await _states(pool)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
    return states


async def _states(pool: Pool) -> dict[str, int]:
    return {row.state: row.jobs for row in await pool.fetch(_Count, _BY_STATE)}


async def kill_all(system: SystemUnderTest) -> None:
    """SIGKILL `infaas up` and all its descendants, including the servers; only files remain."""
    processes = with_children([psutil.Process(system.pid)])
    send(processes, signal.SIGKILL)
    async with asyncio.timeout(_GONE_S):
        while any(psutil.pid_exists(process.pid) for process in processes):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(_LOOK_S)


async def _wrong(system: SystemUnderTest, ids: list[str]) -> int:
    """Count the jobs whose result is missing, or belongs to another request."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def is_wrong(http: aiohttp.ClientSession, number: int, job_id: str) -> bool:
        async with slots, http.get(f"{_url(system)}/{job_id}/result") as answer:
            return answer.status != HTTPStatus.OK or (await answer.json())["id"] != str(number)

    async with aiohttp.ClientSession() as http:
        return sum(await asyncio.gather(*(is_wrong(http, *one) for one in enumerate(ids))))


def _url(system: SystemUnderTest) -> str:
    return f"{system.gateway}/v2/models/{TASK}/jobs"


if __name__ == "__main__":
    main()
