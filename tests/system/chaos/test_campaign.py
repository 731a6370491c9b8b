"""Test of a short campaign of faults; `make chaos` runs a long one."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from tests.chaos.campaign import CampaignReport
from tests.waiting import until
from zoo.samples import DATA

pytestmark = [pytest.mark.needs_campaign, pytest.mark.timeout(900)]
FAULTS = ("SIGKILL of a selector and a worker", "SIGKILL of Kafka", "200 odd records")
PATIENCE_S = 600.0


async def test_chaos_campaign_loses_and_repeats_nothing(tmp_path: Path) -> None:
    model = f"--model={DATA / 'digits_linear.onnx'}"  # registered in seconds
    words = ("--minutes=15", f"--faults={','.join(FAULTS)}", "--every=8", "--rate=60", f"--report={tmp_path}", model)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.chaos", *words)
    await until(lambda: process.returncode is not None or inflicted(tmp_path) == set(FAULTS), PATIENCE_S)
    if process.returncode is None:
        process.terminate()  # ends the campaign early
    code = await process.wait()
    report = report_in(tmp_path)
    assert code == 0, report
    assert {fault.fault for fault in report.faults} == set(FAULTS)
    assert report.asked > 500
    assert report.ended


def inflicted(folder: Path) -> set[str]:
    """Return the names of the faults reported so far."""
    return {fault.fault for fault in report_in(folder).faults} if (folder / "report.json").exists() else set()


def report_in(folder: Path) -> CampaignReport:
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=CampaignReport)
