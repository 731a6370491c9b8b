"""Fixtures for tests of worker processes."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.integration.workers.conftest import Site, producer, site

__all__ = ["producer", "replaced_worker", "site"]


class KeptWorker:
    """A worker process and its successors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.codes: list[int] = []
        """Exit codes of the processes that ended."""
        self._ended = asyncio.Event()

    def end(self, code: int, successor: subprocess.Popen[bytes]) -> None:
        """Record that the process ended, and its successor."""
        self.codes.append(code)
        self.process = successor
        self._ended.set()

    async def ended_with(self, code: int, timeout_s: float = 100.0) -> None:
        """Wait until a process has ended with this code."""
        async with asyncio.timeout(timeout_s):
            while code not in self.codes:
                self._ended.clear()
                await self._ended.wait()


@asynccontextmanager
async def replaced_worker(site: Site, name: str, **environment: str) -> AsyncGenerator[KeptWorker]:
    """Run a worker that is restarted whenever it ends, as by its launcher."""
    worker = KeptWorker(site.spawn(name, **environment))

    async def keep() -> None:
        while True:
            code = await asyncio.to_thread(worker.process.wait)
            worker.end(code, site.spawn(name, **environment))

    try:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keep())
            try:
                yield worker
            finally:
                keeping.cancel()
    finally:
        worker.process.kill()
        worker.process.wait(10)
