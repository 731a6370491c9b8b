"""Tests of the reading of an issuer's documents, which may arrive in pieces, be too large, or be no objects."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler

from gateway.auth.issuer_keys import IssuerKeys
from tests.issuer import SigningKey, key_set
from tests.waiting import until

DISCOVERY = "/.well-known/openid-configuration"
LARGE = 1 << 20
"""Size of a document in bytes that is too large."""
_FIRST = 20


class IssuerInPieces:
    """Issuer that sends each document in two pieces, the second one once the client has received the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = ""
        self.documents: Mapping[str, bytes] = {}
        """Documents by their paths."""
        self._received = bytearray()
        receive = ResponseHandler.data_received

        def receive_noted(client: ResponseHandler, data: bytes) -> None:
            receive(client, data)
            self._received += data

        monkeypatch.setattr(ResponseHandler, "data_received", receive_noted)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self._received.clear()
        body = self.documents[request.path]
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(body[:_FIRST])
        await until(lambda: body[:_FIRST] in self._received)
        await response.write(body[_FIRST:])
        return response

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        app = web.Application()
        app.add_routes([web.get("/{path:.*}", self.answer)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(("padding", "known"), [(0, {"r"}), (LARGE, None)])
async def test_issuer_keys_are_read_to_their_end(
    monkeypatch: pytest.MonkeyPatch, padding: int, known: set[str] | None
) -> None:
    issuer = IssuerInPieces(monkeypatch)
    async with issuer.running():
        keys = key_set(SigningKey("r")) | {"padding": "x" * padding}
        found = {"jwks_uri": f"{issuer.url}/keys"}
        issuer.documents = {DISCOVERY: json.dumps(found).encode(), "/keys": json.dumps(keys).encode()}
        async with IssuerKeys(issuer.url, "", 30.0) as read:
            assert (read.current if read.current is None else set(read.current)) == known


@pytest.mark.parametrize(
    "document", [b"[" * 100_000, b'{"a":' + b"[" * 100_000, b'{"jwks_uri": 1, "a": 2}', b"text", b"\xff" * 30]
)
async def test_issuer_keys_stay_unknown_after_invalid_discovery(
    monkeypatch: pytest.MonkeyPatch, document: bytes
) -> None:
    issuer = IssuerInPieces(monkeypatch)
    async with issuer.running():
        issuer.documents = {DISCOVERY: document}
        async with IssuerKeys(issuer.url, "", 30.0) as read:
            assert read.current is None
