"""Tests of the HTTP application without a broker."""

import pytest
from aiohttp import ClientSession, web

from gateway.auth.authenticator import Authenticator
from gateway.http.connection import json_errors
from gateway.service import make_app
from gateway.settings import GatewaySettings


async def test_app_hides_details_of_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("a secret detail")

    app = make_app(GatewaySettings(), [web.get("/", broken)], Authenticator(None))
    assert json_errors in app.middlewares
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with ClientSession() as http, http.get(f"http://{host}:{port}/") as response:
            assert response.status == 500
            assert await response.json() == {"error": "internal error"}
    finally:
        await runner.cleanup()
    assert "a secret detail" in caplog.text
