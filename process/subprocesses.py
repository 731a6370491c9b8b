"""Processes that this one owns: each started with its log in a file, and never outliving us.

The kernel sends it a signal when the thread that started it dies (PR_SET_PDEATHSIG), so that not even our own SIGKILL
leaves it behind. Linux only; elsewhere only a clean exit stops it.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from schemas.errors import OperatorError

STOP_S: Final = 15.0
"""Seconds after which a process that was told to end is killed."""
DRAIN_S: Final = STOP_S - 5.0
"""Seconds that one of our services may drain, so that it is done before it would be killed."""
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a command while the context is open; then send it `stop`, and SIGKILL if it has not ended within `STOP_S`.

    Raises:
        OperatorError: the command cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,  # Ctrl-C is for us: we stop it when our services have drained
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        except OSError as error:
            raise OperatorError(f"cannot start {command[0]}: {error}") from error
    try:
        yield process
    finally:
        await _stop(process, stop)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Function for a child to call between fork and exec, so that it gets this signal when its parent thread dies."""
    parent = os.getpid()

    return lambda: end_with_parent(number, parent)


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Have this process get a signal when the thread that started it dies; end at once if `parent` is dead already."""
    if sys.platform != "linux":
        return
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def log_tail(log: Path) -> str:
    """Last 800 bytes of a log, to quote in an error."""
    return log.read_bytes()[-800:].decode(errors="replace").strip() or "(nothing)"


async def _stop(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is not None:
        return
    process.send_signal(number)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
