"""Tests of queries over HTTP to a server that cuts its answers."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from infaas.client.http_transport import HttpTransport
from infaas.client.transport import EncodedQuery
from process.gateway_access import ClientTls
from schemas.errors import Internal
from schemas.generation import AnswerPart
from schemas.oip import EncodedMessage
from schemas.signature import JSON
from tests.served_apps import served
from tests.waiting import PATIENCE_S

QUERY = EncodedQuery("q", "t", EncodedMessage(b"", None, JSON), {}, timeout_s=30.0, prompt="hello")


class Cutting:
    """Server that gives some events of an answer, and cuts the connection."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        """Words by connection; the last ones also of all further connections."""
        self.asked = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        words = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in words:
            event: dict[str, Any] = {"text_output": word, "tokens": 1} if word else {"finish_reason": "stop"}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if words[-1] and request.transport is not None:
            request.transport.close()
        return response


async def text_of(server: Cutting) -> str:
    app = web.Application()
    app.router.add_post("/v2/models/t/generate_stream", server.answer)
    async with asyncio.timeout(PATIENCE_S), served(app) as url:
        transport = HttpTransport(url, "", 4, ClientTls())
        async with transport, transport.stream(QUERY) as events:
            return "".join([event.text async for event in events if isinstance(event, AnswerPart)])


async def test_stream_gives_up_where_each_answer_is_cut() -> None:
    server = Cutting(["a "])
    with pytest.raises(Internal) as caught:
        await text_of(server)
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert server.asked == 4


async def test_stream_goes_on_while_its_text_grows() -> None:
    words = [f"{number} " for number in range(6)]
    server = Cutting(*[words[: count + 1] for count in range(len(words))], [*words, ""])
    assert await text_of(server) == "".join(words)
