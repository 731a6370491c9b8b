"""A short campaign of faults, as `make chaos` runs a long one."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from bench.chaos.campaign import CampaignReport

pytestmark = pytest.mark.timeout(900)
FAULTS = ("SIGKILL of a selector and a worker", "SIGKILL of Kafka", "200 odd records")


async def test_nothing_is_lost_or_shown_twice_under_faults(tmp_path: Path) -> None:
    words = ("--minutes=0.4", f"--faults={','.join(FAULTS)}", "--every=8", "--rate=60", f"--report={tmp_path}")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.chaos", *words)
    code = await process.wait()
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=CampaignReport)
    assert code == 0, report
    assert {fault.fault for fault in report.faults} == set(FAULTS)
    assert report.asked > 500
    assert report.ended
