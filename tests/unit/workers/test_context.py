"""Tests of the times at which a worker sends its status."""

import asyncio

from autoscaler.settings import AutoscalerSettings
from workers.context import StatusTrigger
from workers.settings import WorkerSettings

NEVER_S = 60.0


async def waited_s(trigger: StatusTrigger, interval_s: float, *, idle: bool) -> float:
    clock = asyncio.get_running_loop().time
    began_s = clock()
    async with asyncio.timeout(5):
        await trigger.wait(interval_s, NEVER_S, idle=idle)
    return clock() - began_s


async def test_status_trigger_fires_at_once_after_change() -> None:
    for idle in (True, False):
        trigger = StatusTrigger()
        trigger.begin()
        asyncio.get_running_loop().call_soon(trigger.change)
        await waited_s(trigger, NEVER_S / 2, idle=idle)


async def test_status_trigger_fires_after_short_interval_with_work() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    asyncio.get_running_loop().call_soon(trigger.work)
    assert await waited_s(trigger, 0.05, idle=True) >= 0.05


async def test_status_trigger_waits_short_interval_if_busy() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    assert await waited_s(trigger, 0.05, idle=False) >= 0.05


async def test_status_trigger_waits_long_interval_if_idle() -> None:
    trigger = StatusTrigger()
    trigger.work()
    trigger.begin()  # the status contains earlier work
    waiting = asyncio.ensure_future(trigger.wait(0.01, NEVER_S, idle=True))
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    trigger.change()
    async with asyncio.timeout(5):
        await waiting


def test_status_ttl_tolerates_two_lost_idle_statuses() -> None:
    assert 3 * WorkerSettings().status_idle_interval_s <= AutoscalerSettings().status_ttl_s
