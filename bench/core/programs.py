"""Programs that a bench runs: to their end, or while a context is open."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import psutil

from broker.kafka.settings import KafkaSettings

_START_S: Final = 60.0
_STOP_S: Final = 60.0


class EndedProgram(NamedTuple):
    """Program that has ended."""

    code: int
    output: bytes
    errors: bytes


async def run_program(*command: str, timeout_s: float, env: Mapping[str, str] | None = None) -> EndedProgram:
    """Run a program; it is killed when this call ends early or after `timeout_s`.

    Raises:
        FileNotFoundError: there is no such program.
        TimeoutError: it took too long.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=env)
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return EndedProgram(process.returncode or 0, output, errors)


@asynccontextmanager
async def running_module(
    kafka: KafkaSettings, module: str, *words: str, env: Mapping[str, str] = {}, announced: bool = True
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a module of ours on a broker while the context is open, and end it by SIGTERM.

    Args:
        kafka: broker, passed in the environment.
        module: name of the module.
        words: arguments of the command line.
        env: further variables of the environment.
        announced: wait until it prints the line `ready`; otherwise its output is dropped.
    """
    login = {"INFAAS_KAFKA": kafka.bootstrap, "INFAAS_KAFKA_FETCH_MAX_WAIT_MS": str(kafka.fetch_max_wait_ms)}
    output = asyncio.subprocess.PIPE if announced else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *words, stdout=output, env={**os.environ, **login, **env}
    )
    try:
        if process.stdout is not None:
            async with asyncio.timeout(_START_S):
                if await process.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"{module} {' '.join(words)} did not start")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(_STOP_S):
            await process.wait()


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds that a process has used so far."""
    times = process.cpu_times()
    return times.user + times.system


def cpu_seconds(supervisor: psutil.Process) -> dict[str, float]:
    """Return the CPU seconds of the supervisor and its descendants, by kind; ended ones count for their parent."""
    seconds: dict[str, float] = {}
    for process in (supervisor, *supervisor.children(recursive=True)):
        try:
            name, times = _kind(process), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        taken = times.user + times.system + times.children_user + times.children_system
        seconds[name] = seconds.get(name, 0.0) + taken
    return seconds


def _kind(process: psutil.Process) -> str:
    """Return the service of a process, or its program."""
    arguments = process.cmdline()
    return arguments[2] if arguments[1:2] == ["-m"] else process.name()
