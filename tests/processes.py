"""Services as processes of their own, as an operator starts them by hand."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil

from broker.settings import KafkaSettings


def variables_of(kafka: KafkaSettings, dsn: str, home: Path | None = None) -> dict[str, str]:
    """Where services find Kafka, Postgres and their home."""
    return {
        **login_of(kafka),
        "INFAAS_KAFKA_FETCH_MAX_WAIT_MS": str(kafka.fetch_max_wait_ms),
        "INFAAS_POSTGRES": dsn,
        **({"INFAAS_HOME": str(home)} if home else {}),
    }


def login_of(kafka: KafkaSettings) -> dict[str, str]:
    """Where Kafka is, and how to get in, but for secrets that stand in no file."""
    login = {f"INFAAS_KAFKA_{name.upper()}": value for name, value in kafka.login.items()}
    return {"INFAAS_KAFKA": kafka.bootstrap, **login}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment that processes get: ours without what is set of INFAaS here, and these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")} | dict(variables)


@asynccontextmanager
async def service(module: str, *words: str, env: Mapping[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A service while the context is open; then it is killed, if it has not ended."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *words, env=environment(env))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def output_of(*words: str | Path, env: Mapping[str, str] = {}) -> tuple[int | None, str]:
    """Run Python with these words to its end; returns its exit code and all that it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words), env=environment(env), stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(180):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


def name_of(process: psutil.Process) -> str:
    """The name of a process; none of one that has ended, as those do that serve a connection to Postgres."""
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


@contextmanager
def suspended(pid: int) -> Generator[None]:
    """Have a process stand still while the context is open, if nobody ends it meanwhile."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
