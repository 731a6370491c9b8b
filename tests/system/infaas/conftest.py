"""A system started as a person starts it, and the command line that speaks to it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infaas.supervisor.state import STATE

UP_S = 180.0
FREE_PORTS = ("--gateway-port=0", "--kafka-port=0")


class Cli:
    """Runs `infaas` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def start(self, *words: str, **extra: str) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infaas.cli.main", *words),
            env=environment | {"INFAAS_HOME": str(self.home)} | extra,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str, **extra: str) -> tuple[int | None, str, str]:
        process = await self.start(*words, **extra)
        async with asyncio.timeout(UP_S):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def json(self, *words: str) -> Any:
        code, out, err = await self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    @asynccontextmanager
    async def up(self, *words: str, **extra: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        process = await self.start("up", *FREE_PORTS, *words, **extra)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(UP_S):
                await process.communicate()
            assert not (self.home / STATE).exists()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")
