"""Tests of the lifecycle of a service process: its start, drain and exit code, and the end of one that hangs."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from prometheus_client import REGISTRY

from process.health import health_server, responds, wait_until_hung
from process.loop_delay import DelayCause, sample_loop_delay
from process.run import EXIT_FAILED
from process.sockets import LOOPBACK, free_port
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[3]
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
ENDLESS_IMPORT = """
import signal
print("importing", flush=True)
while True:
    signal.pause()
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


@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        (["autoscaler"], signal.SIGTERM, 0),
        (["gateway"], signal.SIGTERM, 0),
        (["selector"], signal.SIGTERM, 0),
        (["workers"], signal.SIGTERM, 0),
        (["workers"], signal.SIGINT, 0),
        (["gateway", "--check"], signal.SIGTERM, -signal.SIGTERM),
    ],
    ids=["autoscaler", "gateway", "selector", "workers", "Ctrl-C", "an interrupted check"],
)
def test_signal_during_imports_ends_service(
    words: list[str], number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "uvloop.py").write_text(ENDLESS_IMPORT)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", *words], env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (code, "")


async def test_delay_of_the_loop_is_sampled_while_asked() -> None:
    def samples() -> float:
        name = "infaas_event_loop_delay_seconds_count"
        return sum(REGISTRY.get_sample_value(name, {"cause": str(cause)}) or 0.0 for cause in DelayCause)

    before, callbacks = samples(), len(gc.callbacks)
    sampling = asyncio.create_task(sample_loop_delay())
    await until(lambda: samples() >= before + 3)
    sampling.cancel()
    await asyncio.wait([sampling])
    assert len(gc.callbacks) == callbacks
