"""An idle worker says so seldom, and speaks up as soon as there is something to say."""

import asyncio

from autoscaler.settings import AutoscalerSettings
from workers.settings import WorkerSettings
from workers.status_trigger import StatusTrigger

NEVER_S = 60.0


async def waited_s(trigger: StatusTrigger, interval_s: float, *, idle: bool) -> float:
    clock = asyncio.get_running_loop().time
    began_s = clock()
    async with asyncio.timeout(5):
        await trigger.wait(interval_s, NEVER_S, idle=idle)
    return clock() - began_s


async def test_a_change_is_told_at_once() -> None:
    for idle in (True, False):
        trigger = StatusTrigger()
        trigger.begin()
        asyncio.get_running_loop().call_soon(trigger.change)
        await waited_s(trigger, NEVER_S / 2, idle=idle)


async def test_work_that_comes_is_told_after_the_short_while() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    asyncio.get_running_loop().call_soon(trigger.work)
    assert await waited_s(trigger, 0.05, idle=True) >= 0.05


async def test_who_is_busy_waits_the_short_while_only() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    assert await waited_s(trigger, 0.05, idle=False) >= 0.05


async def test_who_is_idle_waits_the_long_while() -> None:
    trigger = StatusTrigger()
    trigger.work()
    trigger.begin()  # what came before is in the status
    waiting = asyncio.ensure_future(trigger.wait(0.01, NEVER_S, idle=True))
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    trigger.change()
    async with asyncio.timeout(5):
        await waiting


def test_two_statuses_of_an_idle_worker_may_be_lost_before_it_is_taken_for_dead() -> None:
    assert 3 * WorkerSettings().status_idle_interval_s <= AutoscalerSettings().status_ttl_s
