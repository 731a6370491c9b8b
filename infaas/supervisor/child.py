"""One service process that is restarted whenever it ends: the first time at once, later after growing pauses.

All processes of a service have the same environment and append to the same log. A service that ends three times before
it was ever ready is misconfigured. It is not restarted again; the operator gets an error instead.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from infaas.supervisor.restart_backoff import RestartBackoff
from infaas.supervisor.state import ServiceState
from process.liveness import responds, wait_until_hung
from process.settings import ServiceSettings
from process.subprocesses import running
from schemas.errors import OperatorError

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
            self._announce(
                f"{self.spec.name} ended with code {code}; restarting it{f' in {pause_s:g} s' * (pause_s > 0)}"
            )
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
        command = [sys.executable, "-m", self.spec.module]
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

    def _tail(self) -> str:
        return self.spec.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
