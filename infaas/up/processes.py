"""Supervised processes: services and servers that are restarted whenever they end.

The first restart is at once, later ones follow growing pauses. All processes of a service have the same environment and
append to the same log. A service that ends three times before it was ever ready is misconfigured. It is not restarted
again; the operator gets an error instead.

A Kafka or Postgres is restarted with the same data at the same port. No service is started while a server that it needs
is down: it would end at once and count as misconfigured.
"""

import asyncio
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import msgspec

from infaas.up.state import ServerState, ServiceState
from process.backoff import Backoff
from process.health import responds, wait_until_hung
from process.module_names import module_name
from process.settings import ServiceSettings
from process.subprocesses import last_words, running
from schemas.errors import InfaasError, OperatorError

STABLE_S: Final = 30.0
"""After this time a process counts as healthy, and the back-off starts from the beginning."""
_BACKOFF: Final = Backoff(first_s=0.5, longest_s=10.0)


class RestartBackoff:
    """Back-off of one process and its successors; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = math.inf
        self._ends = 0

    @property
    def quick_ends(self) -> int:
        """Number of ends in a row, each within `STABLE_S` of the start; 0 once the process has run for longer."""
        return 0 if self._clock() - self._began_s > STABLE_S else self._ends

    def started(self) -> None:
        """Note that the process was started now."""
        self._began_s = self._clock()

    def ended(self) -> float:
        """Count an end, or a start that failed; return the pause in seconds before the restart."""
        ends = self.quick_ends
        self._began_s, self._ends = math.inf, ends + 1
        return _BACKOFF.pause_s(ends) if ends else 0.0


_FALSE_STARTS: Final = 3
_PROBE_S: Final = 1.0
_PROBE_INTERVAL_S: Final = 0.05
_LOG_TAIL: Final = 1500


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Command, environment, URLs and log file of a service."""

    name: str
    module: str
    """Name of the module that `python -m` starts."""
    env: Mapping[str, str]
    """Variables added to the supervisor's environment."""
    health: str
    """URL that answers 200 when the service is ready."""
    live: str
    """URL that answers 200 as long as the process is alive."""
    metrics: str
    log: Path


def child_spec(home: Path, name: str, module: str, env: Mapping[str, str], url: str) -> ChildSpec:
    """Return the spec of a service that serves health and metrics at `url` and logs to `<home>/logs/<name>.log`."""
    log = home / "logs" / f"{name}.log"
    ready, live = f"{url}/health/ready", f"{url}/health/live"
    return ChildSpec(name=name, module=module, env=env, health=ready, live=live, metrics=f"{url}/metrics", log=log)


class Child:
    """A service process and its successors.

    Args:
        spec: how to start the service.
        announce: receives a line for the operator when a process ends.
        changed: called when a process starts.
        servers_up: awaited before each start; returns when Kafka and Postgres run.
    """

    def __init__(
        self,
        spec: ChildSpec,
        announce: Callable[[str], None],
        changed: Callable[[], None],
        servers_up: Callable[[], Awaitable[None]],
    ) -> None:
        self.spec = spec
        self._announce = announce
        self._changed = changed
        self._pid = 0
        self._restarts = 0
        self._servers_up = servers_up
        self._process: asyncio.subprocess.Process | None = None
        self._log_begin = 0
        """Size of the log when the current process was started: it has the lines of all its predecessors."""
        self._backoff = RestartBackoff()
        self._false_starts = 0
        self._ready = asyncio.Event()
        self._was_ready = False
        self._retired = False

    @property
    def state(self) -> ServiceState:
        """Current process, as written to the state file."""
        spec = self.spec
        return ServiceState(
            module=spec.module,
            pid=self._pid,
            restarts=self._restarts,
            health=spec.health,
            metrics=spec.metrics,
            log=str(spec.log),
        )

    @property
    def is_ready(self) -> bool:
        """True if the current process has been ready."""
        return self._ready.is_set()

    @property
    def failure(self) -> str:
        """Reason why the service is unreliable: it ended three times in a row and has not recovered; else empty."""
        ends = self._backoff.quick_ends
        if ends < _FALSE_STARTS:
            return ""
        return f"{self.spec.name} ended {ends} times in a row. {self.spec.log} ends:\n{self._tail()}"

    async def keep_running(self) -> None:
        """Restart the process whenever it ends, until the task is cancelled or `retire` was called before the end.

        Cancellation stops the process gracefully.

        Raises:
            OperatorError: the process ended three times before it was ever ready; the message quotes its log.
        """
        while True:
            await self._servers_up()
            self._backoff.started()
            code = await self._run_once_if_possible()
            if self._retired:
                return
            self._check_start(code)
            pause_s = self._backoff.ended()
            pause = f" in {pause_s:g} s" if pause_s > 0 else ""
            self._announce(f"{self.spec.name} ended with code {code}{self._reason(code)}; restarting it{pause}")
            await asyncio.sleep(pause_s)
            self._restarts += 1

    def retire(self) -> None:
        """Stop restarting the process. systemd, for example, may stop all processes of the system at once."""
        self._retired = True

    def replace(self) -> None:
        """Kill the current process, so that a new one takes its place."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait_ready(self) -> None:
        """Wait until the health URL of the current process has answered 200."""
        await self._ready.wait()

    async def _run_once_if_possible(self) -> int:
        try:
            return await self._run_once()
        except OSError as error:  # for example a full disk; space may become free
            self._announce(f"{self.spec.name} cannot be started: {error}")
            return os.EX_IOERR

    async def _run_once(self) -> int:
        command = [sys.executable, "-m", module_name(self.spec.module)]
        self._log_begin = self.spec.log.stat().st_size if self.spec.log.exists() else 0
        async with running(command, self.spec.log, env={**os.environ, **self.spec.env}) as process:
            self._process, self._pid = process, process.pid
            self._changed()
            async with asyncio.TaskGroup() as tasks:
                alive = tasks.create_task(self._kill_when_hung(process), name=f"liveness of {self.spec.name}")
                ready = tasks.create_task(self._note_ready(), name=f"readiness of {self.spec.name}")
                try:
                    return await process.wait()
                finally:
                    alive.cancel()
                    ready.cancel()
                    self._ready.clear()

    async def _note_ready(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as http:
            while not await responds(http, self.spec.health):  # noqa: ASYNC110 - HTTP health has no event to wait for
                await asyncio.sleep(_PROBE_INTERVAL_S)
        self._was_ready = True
        self._ready.set()

    async def _kill_when_hung(self, process: asyncio.subprocess.Process) -> None:
        await wait_until_hung(self.spec.live, ServiceSettings().hang_s)
        self._announce(f"{self.spec.name} does not respond to liveness checks; killing it")
        if process.returncode is None:
            process.kill()

    def _check_start(self, code: int) -> None:
        if self._was_ready:
            return
        self._false_starts += 1
        if self._false_starts >= _FALSE_STARTS:
            raise OperatorError(
                f"{self.spec.name} does not start (exit code {code}). {self.spec.log} ends:\n{self._tail()}"
            )

    def _reason(self, code: int) -> str:
        """Return the last words of an ended process, in parentheses; none if it was killed, which it cannot log."""
        words = last_words(self.spec.log, self._log_begin) if code > 0 else ""
        return f" ({words})" if words else ""

    def _tail(self) -> str:
        return self.spec.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()


class ServerProcess(Protocol):
    """Process of a server that can be restarted."""

    @property
    def pid(self) -> int:
        """Process id of the current or last process."""
        ...

    @property
    def log_file(self) -> Path:
        """Log file of the process."""
        ...

    async def start(self) -> None:
        """Start the process as before and wait until it answers. Raises InfaasError if it does not."""
        ...

    async def ended(self) -> int:
        """Wait until the process has ended; returns its exit code."""
        ...


async def _nothing() -> None:
    pass


class Server:
    """A running server of this system and its successors."""

    def __init__(
        self,
        name: str,
        address: str,
        process: ServerProcess,
        announce: Callable[[str], None],
        *,
        loss: str = "",
    ) -> None:
        """`loss` describes the data lost when the process ends."""
        self.name = name
        self._address = address
        self._process = process
        self._announce = announce
        self._loss = loss
        self.restore: Callable[[], Awaitable[None]] = _nothing
        """Awaited after each restart."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the process has ended, and when it runs again."""
        self._backoff = RestartBackoff()
        self._restarts = 0
        self._alarm = ""
        self._up = asyncio.Event()
        self._up.set()

    @property
    def state(self) -> ServerState:
        """Current process, as written to the state file."""
        return ServerState(
            pid=self._process.pid,
            restarts=self._restarts,
            address=self._address,
            state="running" if self._up.is_set() else "down",
            alarm=self._alarm,
            log=str(self._process.log_file),
        )

    async def wait_up(self) -> None:
        """Wait until the server runs."""
        await self._up.wait()

    async def keep_running(self) -> None:
        """Restart the process whenever it ends, until cancelled."""
        while True:
            self._backoff.started()
            code = await self._process.ended()
            self._up.clear()
            if self._loss:
                self._alarm = f"ended at {time.strftime('%H:%M:%S')}: {self._loss}"
                self._announce(f"alarm: {self.name} {self._alarm}")
            self.changed()
            await self._start_again(f"ended with code {code}")
            self._restarts += 1
            self._up.set()
            self._announce(f"{self.name} is running again")
            self.changed()

    async def _start_again(self, problem: str) -> None:
        while problem:
            pause_s = self._backoff.ended()
            self._announce(f"{self.name} {problem}; restarting it{f' in {pause_s:g} s' * (pause_s > 0)}")
            await asyncio.sleep(pause_s)
            problem = ""
            try:
                await self._process.start()
                await self.restore()
            except (InfaasError, OSError) as error:  # OSError: for example a full disk; space may become free
                problem = f"does not start: {error}"
