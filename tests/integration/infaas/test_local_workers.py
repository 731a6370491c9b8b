"""State of supervised worker processes that end and are restarted. A small program stands in for the worker."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infaas.up import processes
from infaas.up.local_workers import LocalWorkers, LocalWorkerSpec
from infaas.up.metrics_ports import MetricsPorts
from infaas.up.options import UpOptions
from process.home import ProcessStatus, SupervisorCommand, send_command
from tests.waiting import read_until

PROGRAM = """
import http.server, os, pathlib, time

starts = pathlib.Path("starts")
with starts.open("a") as file:
    file.write("x")
orders = pathlib.Path(f"start-{starts.stat().st_size}")
while not orders.exists():
    time.sleep(0.01)
if orders.read_text() == "end":
    raise SystemExit(1)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

port = int(os.environ["INFAAS_WORKERS_METRICS_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


async def _nothing() -> None:
    pass


class Site:
    """A supervisor of one worker, and the orders that each start of the worker follows."""

    def __init__(self, home: Path, workers: LocalWorkers) -> None:
        self._home = home
        self._workers = workers

    def order(self, start: int, verb: str) -> None:
        """Let a start of the worker go on: it serves, or ends."""
        (self._home / f"start-{start}.new").write_text(verb)
        (self._home / f"start-{start}.new").rename(self._home / f"start-{start}")

    async def until(self, state: str, restarts: int) -> ProcessStatus:
        """Wait for a state of the worker after this number of restarts."""

        async def read() -> tuple[ProcessStatus, int]:
            reply = await send_command(self._home, SupervisorCommand(verb="list", name=""))
            (child,) = self._workers.children
            return reply.processes[0], child.state.restarts

        found, _ = await read_until(read, lambda seen: (seen[0].state, seen[1]) == (state, restarts))
        return found

    def kill(self) -> None:
        """Kill the process of the worker."""
        (child,) = self._workers.children
        child.replace()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Site]:
    """A supervised worker that has become ready, in a folder where `python -m workers` starts the small program."""
    (tmp_path / "workers.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    async with _running(tmp_path) as site:
        site.order(1, "serve")
        await site.until("running", restarts=0)
        yield site


@asynccontextmanager
async def _running(home: Path) -> AsyncGenerator[Site]:
    options = UpOptions(home=home, metrics_port=0)
    with MetricsPorts(options) as ports:
        specs = [LocalWorkerSpec(memory_bytes=1)]
        workers = LocalWorkers(options, specs, ports, {}, lambda _: None, lambda: None, _nothing)
        async with workers.running():
            yield Site(home, workers)


async def test_local_workers_restarted_worker_is_starting(site: Site) -> None:
    site.kill()
    await site.until("starting", restarts=1)
    site.order(2, "serve")
    await site.until("running", restarts=1)


async def test_local_workers_recovered_worker_is_running(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.kill()
    site.order(2, "end")
    site.order(3, "end")
    site.order(4, "serve")
    failed = await site.until("failed", restarts=3)
    assert "3 times in a row" in failed.reason
    monkeypatch.setattr(processes, "STABLE_S", 0.0)  # as if the process had run for that time
    await site.until("running", restarts=3)
