"""What a system takes while nobody asks it anything: next to nothing, or something in it wakes itself.

What does that makes thousands of transactions a second, or takes a core; usual are a dozen, and a hundredth of one.
Work may still end, so a window is looked at after the other until one is quiet: that of a spin never is.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import psutil

from bench.idle import cpu_seconds
from tests.system.infaas.conftest import Cli
from tests.waiting import read_until

_WINDOW_S: Final = 3.0
_TRANSACTIONS: Final = "transactions of Postgres"
_MOST_TRANSACTIONS: Final = 300.0
"""A second."""
_MOST_CPU: Final = 0.2
"""Of a core, of the processes of a kind."""


async def until_idle(cli: Cli) -> None:
    """Wait until nothing goes on in a system that is ready; what goes on for ever fails, and is shown."""
    state = await cli.json("status", "--wait", "--show-secrets")
    database = await asyncpg.connect(state["postgres"])
    try:
        await read_until(lambda: _rates(database, psutil.Process(state["pid"])), _are_of_an_idle_system)
    finally:
        await database.close()


async def _rates(database: Any, supervisor: psutil.Process) -> Mapping[str, float]:
    """Transactions, and seconds of CPU by kind of process, each by second, over a window."""
    began_s, before = time.monotonic(), await _counters(database, supervisor)
    await asyncio.sleep(_WINDOW_S)
    after, took_s = await _counters(database, supervisor), time.monotonic() - began_s
    return {name: round((count - before.get(name, 0.0)) / took_s, 3) for name, count in after.items()}


async def _counters(database: Any, supervisor: psutil.Process) -> dict[str, float]:
    done = await database.fetchval("SELECT sum(xact_commit + xact_rollback)::float8 FROM pg_stat_database")
    return {_TRANSACTIONS: done, **cpu_seconds(supervisor)}


def _are_of_an_idle_system(rates: Mapping[str, float]) -> bool:
    return all(rate < (_MOST_TRANSACTIONS if name == _TRANSACTIONS else _MOST_CPU) for name, rate in rates.items())
