"""A server that is kept running, Kafka or Postgres: started again, with the same data at the same port, when it ends.

While it is away nothing that needs it is started: that would end at once, and count as a service that cannot start.
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
    """Process of a server that can be started again."""

    @property
    def pid(self) -> int:
        """Id of the present process, or of the last."""
        ...

    @property
    def log_file(self) -> Path:
        """File that it writes its log to."""
        ...

    async def start(self) -> None:
        """Start it, as it was, and wait until it answers. Raises InfaasError if it does not."""
        ...

    async def ended(self) -> int:
        """Wait until it has ended; returns its exit code."""
        ...


async def _nothing() -> None:
    pass


class Server:
    """A server of this system, which runs, and its successors."""

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
        """`loss` says what is lost when it ends; `restore` puts in place again what it needs, once it runs again."""
        self.name = name
        self._address = address
        self._process = process
        self._announce = announce
        self._loss = loss
        self.restore = restore
        self.changed: Callable[[], None] = lambda: None
        """Called when it has ended, and when it runs again."""
        self._backoff = RestartBackoff()
        self._restarts = 0
        self._alarm = ""
        self._up = asyncio.Event()
        self._up.set()

    @property
    def state(self) -> ServerState:
        """The present process, as written to the state file."""
        return ServerState(
            pid=self._process.pid,
            restarts=self._restarts,
            address=self._address,
            state="running" if self._up.is_set() else "down",
            alarm=self._alarm,
            log=str(self._process.log_file),
        )

    async def wait_up(self) -> None:
        """Wait until it runs."""
        await self._up.wait()

    async def keep_running(self) -> None:
        """Start it again whenever it ends, until cancelled."""
        while True:
            began = time.monotonic()
            code = await self._process.ended()
            self._up.clear()
            if self._loss:
                self._alarm = f"ended at {time.strftime('%H:%M:%S')}: {self._loss}"
                self._announce(f"alarm: {self.name} {self._alarm}")
            self.changed()
            await self._start_again(f"ended with code {code}", time.monotonic() - began)
            self._restarts += 1
            self._up.set()
            self._announce(f"{self.name} runs again")
            self.changed()

    async def _start_again(self, problem: str, lived_s: float) -> None:
        while problem:
            pause_s = self._backoff.next_pause_s(lived_s)
            self._announce(f"{self.name} {problem}; starting it again{f' in {pause_s:g} s' * (pause_s > 0)}")
            await asyncio.sleep(pause_s)
            lived_s, problem = 0.0, ""
            try:
                await self._process.start()
                await self.restore()
            except (InfaasError, OSError) as error:  # OSError: a full disk, which may not stay full
                problem = f"does not start: {error}"
