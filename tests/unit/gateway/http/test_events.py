"""Tests of responses of events that do not end as they should."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientPayloadError, ClientSession, web

from gateway.auth.authenticator import Authenticator
from gateway.http.events import EventResponse, event
from gateway.service import make_app
from gateway.settings import GatewaySettings
from schemas.errors import Overloaded, QueryError
from tests.served_apps import served
from tests.waiting import PATIENCE_S

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error_event(error: QueryError) -> bytes:
    return event({"error": str(error)})


async def body_of(handler: Handler) -> tuple[int, bytes]:
    app = make_app(GatewaySettings(), [web.get("/", handler)], Authenticator(None))
    async with asyncio.timeout(PATIENCE_S), served(app) as url, ClientSession() as http, http.get(url) as response:
        return response.status, await response.read()


def failing(error: Exception, *, begins: bool) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = EventResponse(request, {})
        async with response.ending(error_event):
            if begins:
                await response.send(event(1))
            raise error
        return response.ended

    return handler


@pytest.mark.parametrize(
    ("error", "message"), [(RuntimeError("a secret"), b"internal error"), (Overloaded("too much"), b"too much")]
)
async def test_events_end_with_event_of_error(
    error: Exception, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    expected = b'data: 1\n\ndata: {"error":"' + message + b'"}\n\n'
    assert await body_of(failing(error, begins=True)) == (200, expected)
    assert ("a secret" in caplog.text) == isinstance(error, RuntimeError)


async def test_events_raise_error_before_the_first() -> None:
    status, body = await body_of(failing(Overloaded("too much"), begins=False))
    assert (status, b"too much" in body) == (503, True)


async def test_events_to_client_that_left_log_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    await body_of(failing(ConnectionResetError(), begins=True))
    assert not caplog.records


async def test_app_cuts_response_that_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    """Another response must not become part of its body."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise RuntimeError("a secret")

    with pytest.raises(ClientPayloadError):
        await body_of(handler)
    assert "a secret" in caplog.text
