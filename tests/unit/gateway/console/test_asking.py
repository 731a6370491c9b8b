"""Tests of the handler of the form that asks a task."""

from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.console.asking import AskRoutes
from gateway.console.visit import Visit
from schemas.access import Principal
from schemas.errors import Forbidden


class Console:
    """Console whose handlers are called with a visit, and whose forms are not to be read."""

    def handler(self, serve: Any) -> Any:
        return serve

    async def read_form(self, *_: Any, **__: Any) -> None:
        raise AssertionError("the form is read")


async def test_ask_is_refused_without_the_role_before_its_form_is_read() -> None:
    nothing = cast(Any, None)
    [route] = AskRoutes(cast(Any, Console()), nothing, nothing).routes()
    request = make_mocked_request("POST", "/console/tasks/digits/ask")
    with pytest.raises(Forbidden):
        await cast(Any, route).handler(Visit(request, Principal("key", "acme", frozenset()), "token", nothing))
