"""Tests of the HTTP application without a broker."""

import pytest
from aiohttp import ClientSession, web

from gateway.auth.authenticator import Authenticator
from gateway.http.connection import json_errors
from gateway.service import make_app
from gateway.settings import GatewaySettings
from tests.served_apps import served


async def test_app_hides_details_of_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("a secret detail")

    app = make_app(GatewaySettings(), [web.get("/", broken)], Authenticator(None))
    assert json_errors in app.middlewares
    async with served(app) as url, ClientSession() as http, http.get(url) as response:
        assert response.status == 500
        assert await response.json() == {"error": "internal error"}
    assert "a secret detail" in caplog.text
