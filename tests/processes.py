"""Services in processes of their own, as an operator starts them by hand."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from broker.kafka.settings import KafkaSettings
from process.sockets import LOOPBACK, free_port
from tests.waiting import until

_ROOT = Path(__file__).parents[1]


def variables_of(kafka: KafkaSettings, dsn: str, home: Path | None = None) -> dict[str, str]:
    """Return the environment variables for Kafka, Postgres and the home of services."""
    return {
        **login_of(kafka),
        "INFAAS_KAFKA_FETCH_MAX_WAIT_MS": str(kafka.fetch_max_wait_ms),
        "INFAAS_POSTGRES": dsn,
        **({"INFAAS_HOME": str(home)} if home else {}),
    }


def login_of(kafka: KafkaSettings) -> dict[str, str]:
    """Return the environment variables for Kafka's address and login; secrets that are in no file are absent."""
    login = {f"INFAAS_KAFKA_{name.upper()}": value for name, value in kafka.login.items()}
    return {"INFAAS_KAFKA": kafka.bootstrap, **login}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: the test's own without `INFAAS_*`, and these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")} | dict(variables)


@asynccontextmanager
async def service(module: str, *words: str, env: Mapping[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a service while the context is open; kill it afterwards if it has not ended."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *words, env=environment(env))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Services(NamedTuple):
    """Running services by name, several of each, and their URLs in the same order."""

    processes: dict[str, list[asyncio.subprocess.Process]]
    urls: dict[str, list[str]]


@asynccontextmanager
async def services(names: Iterable[str], env: Mapping[str, str]) -> AsyncGenerator[Services]:
    """Run services with equal settings, except for ports, which are unique on a machine, while the context is open."""
    started = Services({}, {})
    async with AsyncExitStack() as stack:
        for name in names:
            port = free_port()
            own = {f"INFAAS_{name.upper()}_{'PORT' if name == 'gateway' else 'METRICS_PORT'}": str(port)}
            process = await stack.enter_async_context(service(name, env={**env, **own}))
            started.processes.setdefault(name, []).append(process)
            started.urls.setdefault(name, []).append(f"http://{LOOPBACK}:{port}")
        yield started


async def output_of(
    *words: str | Path, env: Mapping[str, str] = {}, python: str = sys.executable
) -> tuple[int | None, str]:
    """Run Python with these arguments to its end; return its exit code, and stdout and stderr together."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(python, *words), env=environment(env), stdout=pipe, stderr=asyncio.subprocess.STDOUT
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
    """Return the name of a process, or an empty text if it has ended (a Postgres backend ends with its connection)."""
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def words_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty if it has ended, a zombie included, or may not be read."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def begun_with(source: str, folder: Path) -> dict[str, str]:
    """Return the variables of a Python that first runs this source; the folder keeps it as `sitecustomize.py`."""
    (folder / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{_ROOT}"}


@asynccontextmanager
async def suspended(pid: int) -> AsyncGenerator[None]:
    """Suspend a process while the context is open; the process may be ended meanwhile."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        # Threads run until the kernel has scheduled the one that got the signal; a busy machine needs time for that.
        await until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
