"""Services as processes of their own, as an operator starts them by hand."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from broker.settings import KafkaSettings
from tests.waiting import until

_ROOT = Path(__file__).parents[1]


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


def begun_with(source: str, folder: Path) -> dict[str, str]:
    """The variables of a Python that runs this source, which is kept in the folder, before anything else."""
    (folder / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{_ROOT}"}


@asynccontextmanager
async def suspended(pid: int) -> AsyncGenerator[None]:
    """Have a process stand still while the context is open, if nobody ends it meanwhile."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        # Its threads go on until the one that the signal woke has had its turn, which takes a busy machine a while.
        await until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
