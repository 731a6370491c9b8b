"""Tests of the times at which a worker sends its status."""

import asyncio

import pytest

from autoscaler.settings import AutoscalerSettings
from schemas.status import InstanceState, InstanceStatus
from workers.context import StatusTrigger
from workers.settings import WorkerSettings
from workers.status import is_quiet

NEVER_S = 60.0


async def waited_s(trigger: StatusTrigger, interval_s: float, *, quiet: bool) -> float:
    clock = asyncio.get_running_loop().time
    began_s = clock()
    async with asyncio.timeout(5):
        await trigger.wait(interval_s, NEVER_S, quiet=quiet)
    return clock() - began_s


async def test_status_trigger_fires_at_once_after_change() -> None:
    for quiet in (True, False):
        trigger = StatusTrigger()
        trigger.begin()
        asyncio.get_running_loop().call_soon(trigger.change)
        await waited_s(trigger, NEVER_S / 2, quiet=quiet)


async def test_status_trigger_fires_after_short_interval_with_work() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    asyncio.get_running_loop().call_soon(trigger.work)
    assert await waited_s(trigger, 0.05, quiet=True) >= 0.05


@pytest.mark.parametrize(
    ("queued", "before", "backlogs_s", "quiet"),
    [(0, 1, (0.5,), True), (2, 2, (0.0, 0.0), True), (2, 1, (0.0,), False), (2, 2, (0.0, 0.5), False)],
)
def test_status_is_quiet_unless_queries_move(
    queued: int, before: int, backlogs_s: tuple[float, ...], quiet: bool
) -> None:
    now, then = (InstanceStatus(variant="a", state=InstanceState.ACTIVE, queued=held) for held in (queued, before))
    assert is_quiet((now,), (then,), backlogs_s) is quiet


async def test_status_trigger_waits_short_interval_if_busy() -> None:
    trigger = StatusTrigger()
    trigger.begin()
    assert await waited_s(trigger, 0.05, quiet=False) >= 0.05


async def test_status_trigger_waits_long_interval_if_quiet() -> None:
    trigger = StatusTrigger()
    trigger.work()
    trigger.begin()  # the status contains earlier work
    waiting = asyncio.ensure_future(trigger.wait(0.01, NEVER_S, quiet=True))
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    trigger.change()
    async with asyncio.timeout(5):
        await waiting


def test_status_ttl_tolerates_two_lost_idle_statuses() -> None:
    assert 3 * WorkerSettings().status_idle_interval_s <= AutoscalerSettings().status_ttl_s
