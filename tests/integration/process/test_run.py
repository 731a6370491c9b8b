"""Tests of the lifecycle of a service process: drain, exit code, end of a process that hangs."""

import asyncio
import signal
import subprocess
import sys

import pytest
from aiohttp import ClientSession, web

from process.health import health_server, responds, wait_until_hung
from process.run import EXIT_FAILED
from process.sockets import LOOPBACK, free_port
from tests.waiting import PATIENCE_S

SERVICE = """
import asyncio, sys
from schemas.errors import OperatorError
from process.run import run_service

async def drains(stop):
    print("up", flush=True)
    await stop.wait()
    print("drained", flush=True)

async def hangs(stop):
    print("up", flush=True)
    await asyncio.Event().wait()

async def refuses(stop):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())

async def fail():
    raise OperatorError("set INFAAS_X to a number")

sys.exit(run_service(globals()[sys.argv[1]], drain_timeout_s=float(sys.argv[2]), log_level="INFO"))
"""
STANDS_STILL = """
import asyncio, sys, threading
from process.run import run_service

async def serve(stop):
    print("up", flush=True)
    await asyncio.sleep(0)  # once around the loop: the guard has begun
    threading.Event().wait()

sys.exit(run_service(serve, drain_timeout_s=1, log_level="INFO", hang_s=1.0))
"""


def start(kind: str, drain_timeout_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE, kind, str(drain_timeout_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if kind != "refuses":
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_service_drains_on_signal_and_exits_with_zero(number: signal.Signals) -> None:
    process = start("drains", 60)
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (out, process.returncode) == ("drained\n", 0)


def test_run_service_cancels_after_drain_timeout() -> None:
    process = start("hangs", 0.1)
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130


def test_run_service_exits_at_once_on_second_signal() -> None:
    process = start("hangs", 600)
    process.terminate()
    assert process.stderr is not None
    assert "draining" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130


def test_run_service_prints_operator_error_without_traceback() -> None:
    process = start("refuses", 1)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "set INFAAS_X to a number" in err
    assert "Traceback" not in err


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
