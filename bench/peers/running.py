"""Running peer: installed in an environment of its own, started, probed until it answers, and stopped.

Each environment is installed from its lock file into a cache at the first use.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from bench.core.programs import run_program
from bench.load.http_load import HttpLoad, LoadShape
from bench.load.http_message import HttpRequest
from bench.peers.peer import Peer, ServedFile, ServerSettings
from process.sockets import free_port
from process.subprocesses import running
from schemas.errors import OperatorError

_READY_S: Final = 90.0
_SHOWN: Final = 8000
"""Characters of the log that are shown if a peer does not start."""
_PROBE: Final = LoadShape(seconds=0.2, connections=1, drain_s=1.0)
_PROBE_INTERVAL_S: Final = 0.3
LOCKS: Final = Path(__file__).parents[2] / "tools" / "locks" / "peers"
_INSTALL_S: Final = 600.0
_UV: Final = (sys.executable, "-m", "uv")


class RunningServer(msgspec.Struct, frozen=True):
    """Server that answers."""

    pid: int
    """Process id; all other processes of the server are its descendants."""
    port: int


@asynccontextmanager
async def running_peer(
    peer: Peer, python: Path, served: ServedFile, settings: ServerSettings, client: Path
) -> AsyncGenerator[RunningServer]:
    """Run a peer until the block ends; its output is shown only if it does not start.

    Raises:
        RuntimeError: it does not answer in time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"infaas-{peer.name}-") as name:
        folder = Path(name)
        launch = peer.launch(python, served, settings, port, folder)
        log, environment = folder / "log", {**os.environ, **launch.environment}
        below: list[psutil.Process] = []
        try:
            async with running(launch.command, log, env=environment, cwd=folder) as process:
                try:
                    if not await _first_of(process, answers(client, port, [peer.request(served.inputs)], _READY_S)):
                        raise RuntimeError(f"{peer.name} does not answer: {log.read_text()[-_SHOWN:]}")
                    yield RunningServer(process.pid, port)
                finally:
                    below = _below(process)
        finally:
            _kill(below)  # descendants may outlive the server


async def answers(client: Path, port: int, requests: Sequence[HttpRequest], timeout_s: float) -> bool:
    """Probe until all queries of a short load are answered with 200. Returns false after the timeout."""
    load = HttpLoad(client, port, requests)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                seen = await load.run(_PROBE)
                if seen.answered and seen.answered == seen.sent:
                    return True
                await asyncio.sleep(_PROBE_INTERVAL_S)
    except TimeoutError:
        return False


async def _first_of(process: asyncio.subprocess.Process, answering: Coroutine[Any, Any, bool]) -> bool:
    """Return true if it answers, and false once the process has ended."""
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(answering, name="wait for answers")
        ending = tasks.create_task(process.wait(), name="wait for the end")
        await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        ending.cancel()
    return not waiting.cancelled() and waiting.result()


def _below(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()


async def environment(peer: Peer, cache: Path) -> Path:
    """Install a peer if its environment is missing or its lock file has changed. Returns its interpreter.

    A peer without requirements runs in our own environment.

    Raises:
        OperatorError: the packages cannot be installed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder, lock = cache / peer.name, (LOCKS / f"{peer.name}.txt")
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return python
    await _run(*_UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    await _run(*_UV, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(lock))
    stamp.write_text(lock.read_text())
    return python


async def lock_environment(peer: Peer) -> None:
    """Resolve a peer's requirements, and write its lock file.

    Raises:
        OperatorError: the index lacks such packages.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    wanted = LOCKS / f"{peer.name}.in"
    wanted.write_text("".join(f"{requirement}\n" for requirement in (*peer.requirements, "onnxruntime==1.32.0")))
    flags = ("--quiet", "--generate-hashes", "--python-version", "3.11", "--no-emit-index-url", "--no-annotate")
    try:
        await _run(*_UV, "pip", "compile", *flags, "--no-header", "-o", str(LOCKS / f"{peer.name}.txt"), str(wanted))
    finally:
        wanted.unlink()


async def _run(*command: str) -> None:
    ended = await run_program(*command, timeout_s=_INSTALL_S)
    if ended.code:
        raise OperatorError(f"`{' '.join(command[2:])}` failed: {ended.errors.decode()[-2000:]}")
