"""One client's connection: plain queries are answered here, all else by aiohttp's application.

    bytes -> aiohttp's parser -> a plain query, as nearly all requests are -> InferenceRoutes.answer -> bytes
                              -> anything else: from then on aiohttp has the connection -> router -> handler -> bytes

What aiohttp makes of a request (a task, a request, a route, a response, headers of both) takes as long as all that the
gateway does for it. A plain query needs none of that: it is HTTP/1.1, of someone who may ask, its path is one that a
model has, and its body is neither compressed nor in chunks. Where that is not so, nothing is taken yet when aiohttp
begins.

What is no HTTP, or never ends, is answered in JSON, too, and whoever takes no answers is let go.
"""

import asyncio
import logging
from typing import Any, Final, NamedTuple

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.typedefs import Handler

from gateway.http.answers import HttpAnswer, packed
from gateway.http.encodings import WORTH_BYTES
from gateway.http.errors import answer_to, error_answer
from gateway.http.inference import Asked, InferenceRoutes, client_of
from process.tls import certificate_names
from schemas.errors import Internal, InvalidRequest, Overloaded

log = logging.getLogger(__name__)

_LINGER_S: Final = 10.0
"""Seconds for which the rest of a refused body is read and dropped: a client that still sends reads no answer."""


@web.middleware
async def encode_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress long answers for who accepts that."""
    response = await handler(request)
    accepted = request.headers.get("Accept-Encoding")
    if accepted is None or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    answer = await packed(HttpAnswer(response.status, {}, response.body), accepted)
    if answer.headers:
        response.body = answer.body
        response.headers.update(answer.headers)
    return response


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error of a handler in JSON."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        if request.method != "OPTIONS":
            return answer_to(error, request.method, request.path).response()
        return web.Response(status=204, headers={"Allow": ",".join(sorted({*error.allowed_methods, "OPTIONS"}))})
    except Exception as error:  # noqa: BLE001 - the top of a request; what is no error goes on
        response = answer_to(error, request.method, request.path).response()
        if isinstance(error, web.HTTPRequestTimeout) and isinstance(request.protocol, HttpConnection):
            request.protocol.read_no_more()
            response.force_close()
        return response


class ConnectionLimits(NamedTuple):
    """What all clients of a gateway, and each of them, may take."""

    connections: int
    """Open at once."""
    timeout_s: float
    """Seconds in which the head of a request must arrive, and an answer must be taken."""


class HttpConnection(web.RequestHandler):
    """Connection to one client."""

    __slots__ = ("_certified", "_cut", "_inference", "_limits", "_waiting")

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, inference: InferenceRoutes, limits: ConnectionLimits
    ) -> None:
        no_log: Any = None  # which it may be, whatever its type says
        super().__init__(  # whose bodies are unpacked by RequestBodies, which counts
            manager, loop=loop, access_log=no_log, lingering_time=_LINGER_S, auto_decompress=False
        )
        self._inference = inference
        self._limits = limits
        self._certified: tuple[str, ...] = ()
        self._waiting: object = None
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or say that there are too many."""
        super().connection_made(transport)
        self._certified = certificate_names(transport.get_extra_info("peercert"))
        if self._manager is not None and len(self._manager.connections) > self._limits.connections:
            message = f"{self._limits.connections} connections are open here; try again later"
            self._end_with(error_answer(Overloaded.http_status, Overloaded.code, message))

    async def start(self) -> None:
        """Answer plain queries, one after the other, until the connection ends or aiohttp has to take over."""
        while not (self._close or self._force_close):
            if not self._messages:
                await self._wait_for_message()
            message, body = self._messages[0]
            if not isinstance(message, RawRequestMessage) or (asked := self._plainly_asked(message, body)) is None:
                await super().start()
                return
            self._take_message()
            self._request_in_progress = True  # a shutdown waits for it
            try:
                await self._answer(asked, message, body)
            finally:
                self._request_in_progress = False
                if self._handler_waiter is not None:
                    self._handler_waiter.set_result(None)
            if self._messages:  # who sends many at once keeps out nobody
                await asyncio.sleep(0)
        self.force_close()

    async def _wait_for_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _plainly_asked(self, message: RawRequestMessage, body: StreamReader) -> Asked | None:
        """What a plain query asks; None for whatever aiohttp has to look at."""
        if message.method != "POST" or message.version != HttpVersion11:
            return None
        if message.chunked or message.compression or message.upgrade:
            return None
        if not body.is_eof() and "Expect" in message.headers:
            return None
        return self._inference.asked_at(message.path, message.headers, self._certified)

    def _take_message(self) -> None:
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _answer(self, asked: Asked, message: RawRequestMessage, body: StreamReader) -> None:
        close = message.should_close
        unread: StreamReader | None = None
        try:
            answer = await self._inference.answer(asked, client_of(self.transport), message.headers, body)
            if len(answer.body) >= WORTH_BYTES and "Accept-Encoding" in message.headers:
                answer = await packed(answer, message.headers["Accept-Encoding"])
            head = answer.head(close=close)
        except Exception as error:  # noqa: BLE001 - the top of a request; what is no error goes on
            if not body.is_eof():
                close, unread = True, None if isinstance(error, web.HTTPRequestTimeout) else body
            answer = answer_to(error, message.method, message.path)
            head = answer.head(close=close)
        await self._send(head, answer.body)
        if unread is not None:
            await _drop(unread)
        self._close |= close

    async def _send(self, head: bytes, body: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():  # the client has gone, and nobody hears
            return
        transport.writelines((head, body))
        if self._paused:
            await self._drain_helper()
        # What aiohttp does between two requests: its timer closes a connection on which no other comes.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    async def _drain_helper(self) -> None:
        """Wait until the client has taken most of what was sent; one that does not in time is let go."""
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await super()._drain_helper()
        except TimeoutError:
            self._force_close = True
            if self.transport is not None:
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; its head has to be whole in time, counted from its first byte."""
        super().data_received(data)
        waiter = self._waiter
        # Still waiting though bytes came: they are a part of a head.
        if waiter is not None and waiter is not self._waiting and not waiter.done():
            self._stop_clock()
            self._waiting = waiter
            self._cut = self._loop.call_later(self._limits.timeout_s, self._cut_head)

    def read_no_more(self) -> None:
        """Close after the present answer, without a wait for the rest of what asked for it."""
        self._lingering_time = 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._cut is not None:
            self._cut.cancel()

    def _cut_head(self) -> None:
        waiter = self._waiter
        if waiter is not self._waiting or waiter is None or waiter.done():
            return
        late = f"the head of the request has not arrived within {self._limits.timeout_s:g} s"
        self._end_with(error_answer(web.HTTPRequestTimeout.status_code, InvalidRequest.code, late))

    def _end_with(self, answer: HttpAnswer) -> None:
        if self.transport is not None:
            self.transport.write(answer.head(close=True) + answer.body)
        self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; an error from before any handler, as of an `Expect` that none meets, is JSON, too."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = answer_to(resp, request.method, request.path).response()
            resp.force_close()  # whether its body follows, nobody knows
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be parsed, after which the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, and another cannot follow")
        if status >= 500:  # a defect of ours, and outside of what `json_errors` sees
            log.error("%s %s", request.method, request.path, exc_info=exc)
            answer = error_answer(status, Internal.code, Internal.default_message)
        else:
            reason = (message or "").partition("\n")[0].strip().rstrip(":")
            answer = error_answer(status, InvalidRequest.code, f"this is not HTTP: {reason or exc}")
        response = answer.response()
        response.force_close()
        return response


async def _drop(body: StreamReader) -> None:
    """Read what comes of a body that is not wanted."""
    try:
        async with asyncio.timeout(_LINGER_S):
            while not body.is_eof():
                await body.readany()
    except TimeoutError:
        pass
