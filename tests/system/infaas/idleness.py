"""Check that a system without queries is idle; if it is not, a process wakes itself.

A process that spins makes thousands of transactions a second or uses a core. An idle system makes about a dozen and
uses a hundredth of a core. Earlier work may still be ending, so windows are measured until one is quiet. With a
spinning process none is.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import psutil

from bench.core.programs import cpu_seconds
from tests.system.infaas.conftest import Cli
from tests.waiting import read_until

_WINDOW_S: Final = 3.0
_TRANSACTIONS: Final = "transactions of Postgres"
_MOST_TRANSACTIONS: Final = 300.0
"""Maximum transactions per second."""
_MOST_CPU: Final = 0.2
"""Maximum share of a core, for all processes of a kind."""


async def until_idle(cli: Cli) -> None:
    """Wait until a ready system is idle; fail with the measured rates if it never is."""
    state = await cli.state()
    database = await asyncpg.connect(state["postgres"])
    try:
        await read_until(lambda: _rates(database, psutil.Process(state["pid"])), _are_of_an_idle_system)
    finally:
        await database.close()


async def _rates(database: Any, supervisor: psutil.Process) -> Mapping[str, float]:
    """Return transactions per second, and CPU seconds per second by kind of process, over a window."""
    began_s, before = time.monotonic(), await _counters(database, supervisor)
    await asyncio.sleep(_WINDOW_S)
    after, took_s = await _counters(database, supervisor), time.monotonic() - began_s
    return {name: round((count - before.get(name, 0.0)) / took_s, 3) for name, count in after.items()}


async def _counters(database: Any, supervisor: psutil.Process) -> dict[str, float]:
    done = await database.fetchval("SELECT sum(xact_commit + xact_rollback)::float8 FROM pg_stat_database")
    return {_TRANSACTIONS: done, **cpu_seconds(supervisor)}


def _are_of_an_idle_system(rates: Mapping[str, float]) -> bool:
    return all(rate < (_MOST_TRANSACTIONS if name == _TRANSACTIONS else _MOST_CPU) for name, rate in rates.items())
