"""Tests of `run_service`: signals, draining and errors."""

import signal
import subprocess
import sys

import pytest

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
