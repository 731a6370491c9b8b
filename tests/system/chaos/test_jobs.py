"""Test of jobs while one process of each kind is killed; `make chaos-jobs` kills more."""

import asyncio
import json
import sys

import pytest

pytestmark = [pytest.mark.needs_campaign, pytest.mark.timeout(600)]
JOBS = 4000
"""Number of jobs; some must be open when the first one is seen to have ended."""


async def test_jobs_survive_the_end_of_every_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.jobs", f"--jobs={JOBS}", "--of-each=1", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    report = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, report
    assert report["states"] == {"succeeded": JOBS}
    assert 0 < report["in_flight"] < JOBS
