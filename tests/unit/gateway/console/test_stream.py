"""Tests of the updates of open pages: failed readings, and the distance between readings."""

import asyncio
import logging
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from admin.jobs import JobCancellation
from gateway.console.overview import PAGES
from gateway.console.pages import ACTS
from gateway.console.rendering import Rendering
from gateway.console.stream import Changes, Readings
from gateway.console.visit import Visit
from schemas.access import Principal, Role
from schemas.errors import Unauthenticated

TENANT = Principal("key", "acme", frozenset({Role.QUERY}))


async def test_overview_of_tenant_has_updates() -> None:
    async def no_tasks(*_: Any) -> list[Any]:
        return []

    visit = Visit(make_mocked_request("GET", "/console"), TENANT, "token", cast(Any, no_tasks))
    found = Rendering("1").live(PAGES[0], visit, await PAGES[0].load(visit))
    assert (found["workers"], found["decisions"]) == ("", "")
    assert "No task" in found["tasks"]


async def test_failed_readings_are_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def load() -> dict[str, str]:
        raise errors.pop()

    errors: list[Exception] = [Unauthenticated("no"), KeyError("x"), KeyError("secret")]
    readings = Readings(load)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            event, goes_on = await readings.next_event()
            assert (event.startswith(b"event: trouble"), b"secret" in event, goes_on) == (True, False, True)
    assert len(caplog.records) == 1
    assert (await readings.next_event())[1] is False


async def test_act_ends_pause_after_its_least_part_and_is_not_lost() -> None:
    changes, clock = Changes(), asyncio.get_running_loop().time
    known = changes.number
    changes.notify()  # during the reading
    began = clock()
    await changes.wait(known, 0.05, 60.0)
    assert 0.04 < clock() - began < 30
    known = changes.number
    waiting = asyncio.create_task(changes.wait(known, 0.05, 60.0))
    await asyncio.sleep(0)
    changes.notify()  # during the least part
    await waiting
    assert clock() - began > 0.09
    waiting = asyncio.create_task(changes.wait(changes.number, 30.0, 60.0))
    await asyncio.sleep(0)
    changes.end()
    await waiting
    assert clock() - began < 30


def test_acts_that_change_nothing_do_not_end_pauses() -> None:
    told = {act.path: act.tell for act in ACTS}
    nothing = JobCancellation(cancelled=[], not_cancelled=["a"])
    assert not told["/console/jobs/cancel"](nothing).changed
    assert told["/console/jobs/cancel"](JobCancellation(cancelled=["a"], not_cancelled=[])).changed
