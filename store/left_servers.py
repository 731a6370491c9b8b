"""Cleanup after an embedded Postgres whose owner or main process was killed: its processes and its pid file.

A process belongs to the server if it is a Postgres and its working directory is the server's data folder. The pid file
alone is no proof: the system may have given the same pid to another process. That process must not be signalled, and
Postgres would take it for a running server.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Final

import psutil

from schemas.errors import OperatorError

_PATIENCE_S: Final = 20.0
_LOOK_INTERVAL_S: Final = 0.02

log = logging.getLogger(__name__)


async def clear_left_server(data: Path) -> None:
    """Stop all processes of the server with this data folder, and remove its pid file.

    The caller must know that no owner of the server is alive.

    Raises:
        OperatorError: a process does not end, or the file cannot be removed.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):  # Postgres: fast, then immediate shutdown
        left = server_processes(data)
        if left:
            log.info("stopping the Postgres of an earlier run in %s: %s", data, ", ".join(str(one.pid) for one in left))
            _signal_parents(left, number)
            left = await _wait_gone(data)
        if not left:
            return _remove_pid_file(data / "postmaster.pid")
    raise OperatorError(
        f"a Postgres of an earlier run in {data} does not stop: kill process "
        f"{', '.join(str(one.pid) for one in server_processes(data))} manually"
    )


def server_processes(data: Path) -> list[psutil.Process]:
    """Return the processes of the Postgres server that works in this folder."""
    return [process for process in psutil.process_iter() if _works_in(process, data)]


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name().startswith("postgres") and os.path.samefile(process.cwd(), data)
    except (psutil.Error, OSError):  # the process ended meanwhile, or belongs to another user
        return False


def _signal_parents(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Signal the main process, which stops the others; without a main process the others end by themselves."""
    pids = {process.pid for process in processes}
    for process in processes:
        try:
            if process.ppid() not in pids:
                process.send_signal(number)  # psutil verifies that the pid still belongs to the same process
        except psutil.NoSuchProcess:
            continue


async def _wait_gone(data: Path) -> list[psutil.Process]:
    """Wait until no process of the server is left; on a timeout return the remaining ones."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while server_processes(data):  # noqa: ASYNC110 - cannot wait for a process that is not our child
                await asyncio.sleep(_LOOK_INTERVAL_S)
    except TimeoutError:
        return server_processes(data)
    return []


def _remove_pid_file(file: Path) -> None:
    try:
        named = file.read_bytes().partition(b"\n")[0].decode("ascii", "replace").strip()
        file.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(f"cannot remove {file}, left by an earlier Postgres: {error}") from error
    log.warning("removed %s of an earlier run: its process, %s, is not a Postgres of this system", file, named[:20])
