"""Child processes of this process: each logs to a file and never outlives its parent (`parent_death`)."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from process.parent_death import die_with_parent
from schemas.errors import OperatorError

STOP_S: Final = 15.0
"""Seconds after the stop signal until a process is killed."""
DRAIN_S: Final = STOP_S - 5.0
"""Drain timeout of a child service, short enough that it ends before it is killed."""
_LONGEST_LINE: Final = 2000


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
                start_new_session=True,  # no Ctrl-C: children are stopped after our services have drained
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        except OSError as error:
            raise OperatorError(f"cannot start {command[0]}: {error}") from error
    try:
        yield process
    finally:
        await _stop(process, stop)


def log_tail(log: Path) -> str:
    """Return the last 800 bytes of a log, to quote in an error."""
    return log.read_bytes()[-800:].decode(errors="replace").strip() or "(nothing)"


def last_words(log: Path, begin: int = 0) -> str:
    """Return the last line after the first `begin` bytes of a log, without the frame of a traceback of grouped errors.

    It is empty if there is none, or no log.
    """
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - _LONGEST_LINE))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip(" |") for line in reversed(lines) if line.strip(" |+-")), "")


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


def end_words(code: int) -> str:
    """Return how a process ended, by its exit code, to quote in an error."""
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), probably because the machine ran out of memory"
    return f"it crashed ({signal.Signals(-code).name})" if code < 0 else f"it ended with exit code {code}"
