"""Tests of hung processes: they end themselves, and a watcher detects them."""

import asyncio
import subprocess
import sys

from aiohttp import ClientSession, web

from process.health_server import health_server
from process.liveness import responds, wait_until_hung
from process.ports import LOOPBACK, free_port
from process.run import EXIT_FAILED

STANDS_STILL = """
import asyncio, sys, threading
from process.run import run_service

async def serve(stop):
    print("up", flush=True)
    await asyncio.sleep(0)  # once around the loop: the guard has begun
    threading.Event().wait()

sys.exit(run_service(serve, drain_timeout_s=1, log_level="INFO", hang_s=1.0))
"""


def test_run_service_ends_blocked_event_loop_with_stack() -> None:
    ended = subprocess.run([sys.executable, "-c", STANDS_STILL], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("up\n", EXIT_FAILED)
    assert "in serve" in ended.stderr


async def test_wait_until_hung_tolerates_short_silence() -> None:
    answers = [503, 200, 503, 200, 503, 503, 503, 200]
    asked = iter(answers)

    async def live(_request: web.Request) -> web.Response:
        return web.Response(status=next(asked))

    app, port = web.Application(), free_port()
    app.add_routes([web.get("/live", live)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        async with asyncio.timeout(60):
            await wait_until_hung(f"http://{LOOPBACK}:{port}/live", 2.4)
    finally:
        await runner.cleanup()
    assert list(asked) == [200]


async def test_health_server_reports_not_live() -> None:
    port, well = free_port(), [True]
    url = f"http://{LOOPBACK}:{port}/health/live"

    async def no_problem() -> str:
        return ""

    async with health_server(LOOPBACK, port, no_problem, lambda: well[0]), ClientSession() as http:
        assert await responds(http, url)
        well[0] = False
        assert not await responds(http, url)
