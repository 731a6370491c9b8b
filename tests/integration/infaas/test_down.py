"""Tests of `infaas down` with a process that becomes a zombie, because its parent never waits for it."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import environment, output_of

pytestmark = pytest.mark.timeout(120)
_PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
signal.pause()
"""
_SUPERVISOR = """
import os, signal, sys
from pathlib import Path
from infaas.up.state import SystemState, claimed, write_state

home = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with claimed(home):
    write_state(home, SystemState(
        pid=os.getpid(), ready=True, gateway="", kafka="", kafka_kind="external", kafka_reason="",
        fetch_max_wait_ms=10, postgres="", servers={}, services={},
    ))
    print(os.getpid(), flush=True)
    while True:
        signal.pause()
"""


async def test_down_treats_a_zombie_as_stopped(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT, str(tmp_path), _SUPERVISOR),
        env=environment({}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(60):
            supervisor = int(await parent.stdout.readline())
            code, output = await output_of("-m", "infaas.cli.main", "down", env={"INFAAS_HOME": str(tmp_path)})
        assert (code, output.strip()) == (0, "stopped")
        assert psutil.Process(supervisor).status() == psutil.STATUS_ZOMBIE
    finally:
        parent.kill()
        await parent.wait()
