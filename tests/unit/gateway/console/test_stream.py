"""Tests of the updates of open pages: failed readings, and the distance between readings."""

import logging
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.console.overview import PAGES
from gateway.console.rendering import Rendering
from gateway.console.stream import Readings
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
