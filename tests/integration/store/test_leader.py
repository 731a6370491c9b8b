"""Tests of `held_name`: one process holds a name, which is free at once when that process is killed."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack

import asyncpg
import pytest

from schemas.errors import OperatorError
from store.leader import held_name
from tests.processes import environment

pytestmark = pytest.mark.timeout(120)
_HOLD = """
import asyncio, sys
from store.leader import held_name

async def main():
    async with held_name(sys.argv[1], "selector", "a", "SETTING"):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_second_holder_of_name_is_refused(database: str) -> None:
    async with held_name(database, "selector", "a", "SETTING"), held_name(database, "selector", "b", "SETTING"):
        with pytest.raises(ExceptionGroup) as refused:
            async with held_name(database, "selector", "a", "SETTING"):
                raise AssertionError("two have it")
    (error,) = refused.value.exceptions
    assert isinstance(error, OperatorError)
    assert "another selector named a runs (infaas selector on " in str(error)
    assert "give each its own SETTING" in str(error)
    async with held_name(database, "selector", "a", "SETTING"):
        pass


async def test_name_of_a_killed_holder_is_free_at_once(database: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLD, database), env=environment({}), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"held\n"
    process.kill()
    await process.wait()
    began = time.monotonic()
    async with held_name(database, "selector", "a", "SETTING"):
        waited_s = time.monotonic() - began
    assert waited_s < 6.0  # less than the time that a living holder gets to leave


async def test_name_is_held_again_after_an_outage(database: str) -> None:
    server = await asyncpg.connect(database)
    named = "application_name LIKE 'infaas selector on %' AND datname = current_database()"
    sessions = f"SELECT pid FROM pg_stat_activity WHERE {named}"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        await stack.enter_async_context(held_name(database, "selector", "a", "SETTING"))
        first = await server.fetchval(sessions)
        await server.execute(f"SELECT pg_terminate_backend({first})")
        async with asyncio.timeout(30):
            while await server.fetchval(f"{sessions} AND pid <> {first}") is None:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.02)
        with pytest.raises(ExceptionGroup):
            async with held_name(database, "selector", "a", "SETTING"):
                raise AssertionError("two have it")
