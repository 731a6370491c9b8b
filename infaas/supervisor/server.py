"""A Kafka or Postgres that is restarted, with the same data at the same port, whenever it ends.

No service is started while a server that it needs is down: it would end at once and count as misconfigured.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from infaas.supervisor.restart_backoff import RestartBackoff
from infaas.supervisor.state import ServerState
from schemas.errors import InfaasError


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
        restore: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`loss` describes the data lost when the process ends; `restore` runs after each restart."""
        self.name = name
        self._address = address
        self._process = process
        self._announce = announce
        self._loss = loss
        self.restore = restore
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
