"""HTTP connections and their listener: plain queries are answered here, all others by aiohttp's application.

    bytes -> aiohttp's parser -> plain query, as nearly all requests are -> InferenceRoutes.answer -> bytes
                              -> other: aiohttp serves the connection from then on -> router -> handler -> bytes

The objects that aiohttp creates for a request (task, request, route, response, headers) take as long as all other work
of the gateway on a query. A plain query needs none of them: it uses HTTP/1.1, its caller is authorized, its path is
that of a model, and its body is neither compressed nor chunked. For any other request, aiohttp starts before anything
was read.

Malformed or endless requests are answered in JSON, too, and a client that does not read responses is disconnected.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.typedefs import Handler, Middleware

from gateway.auth.authenticator import Authenticator
from gateway.http.answers import HttpAnswer, answer_to, error_answer, packed, query_error_answer
from gateway.http.authorization import authorization
from gateway.http.bodies import WORTH_BYTES
from gateway.http.inference import AuthorizedQuery, InferenceRoutes, client_of
from gateway.limits.connections import ConnectionLimits
from gateway.settings import GatewaySettings
from process.errors import listen_words
from process.sockets import address_text
from process.tls import ListenerTls, certificate_names
from schemas.errors import Internal, InvalidRequest, OperatorError

log = logging.getLogger(__name__)

_LINGER_S: Final = 10.0
"""Seconds for which the rest of a refused body is read and dropped: a client that still sends reads no response."""


@web.middleware
async def encode_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress long responses if the client accepts that."""
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
    except Exception as error:  # noqa: BLE001 - top of a request; exceptions that are no errors are raised again
        if request.writer.output_size:
            return _broken_off(request, error)
        response = answer_to(error, request.method, request.path).response()
        if isinstance(error, web.HTTPRequestTimeout) and isinstance(request.protocol, HttpConnection):
            request.protocol.read_no_more()
            response.force_close()
        return response


def _broken_off(request: web.Request, error: Exception) -> web.StreamResponse:
    """Cut the connection of a request whose response has begun: a second response would become part of its body."""
    if not isinstance(error, ConnectionResetError):  # else the client is gone
        answer_to(error, request.method, request.path)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # never sent


class HttpConnection(web.RequestHandler):
    """Connection of one client."""

    __slots__ = ("_certified", "_cut", "_inference", "_limits", "_waiting")

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, inference: InferenceRoutes, limits: ConnectionLimits
    ) -> None:
        no_log: Any = None  # aiohttp accepts None, contrary to its type
        super().__init__(  # RequestBodies decompresses bodies and limits their size
            manager, loop=loop, access_log=no_log, lingering_time=_LINGER_S, auto_decompress=False
        )
        self._inference = inference
        self._limits = limits
        self._certified: tuple[str, ...] = ()
        self._waiting: object = None
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        self._certified = certificate_names(transport.get_extra_info("peercert"))
        refusal = None if self._manager is None else self._limits.refusal(len(self._manager.connections))
        if refusal is not None:
            self._end_with(query_error_answer(refusal))

    async def start(self) -> None:
        """Answer plain queries in turn, until the connection ends or another request makes aiohttp take over."""
        while not (self._close or self._force_close):
            if not self._messages:
                await self._wait_for_message()
            message, body = self._messages[0]
            if not isinstance(message, RawRequestMessage) or (asked := self._plain_query(message, body)) is None:
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
            if self._messages:  # pipelined requests must not starve other connections
                await asyncio.sleep(0)
        self.force_close()

    async def _wait_for_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _plain_query(self, message: RawRequestMessage, body: StreamReader) -> AuthorizedQuery | None:
        """Return the model and caller of a plain query; None if aiohttp must handle the request."""
        if message.method != "POST" or message.version != HttpVersion11:
            return None
        if message.chunked or message.compression or message.upgrade:
            return None
        if not body.is_eof() and "Expect" in message.headers:
            return None
        return self._inference.authorized_query(message.path, message.headers, self._certified)

    def _take_message(self) -> None:
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _answer(self, asked: AuthorizedQuery, message: RawRequestMessage, body: StreamReader) -> None:
        close = message.should_close
        unread: StreamReader | None = None
        try:
            answer = await self._inference.answer(asked, client_of(self.transport), message.headers, body)
            if len(answer.body) >= WORTH_BYTES and "Accept-Encoding" in message.headers:
                answer = await packed(answer, message.headers["Accept-Encoding"])
            head = answer.head(close=close)
        except Exception as error:  # noqa: BLE001 - top of a request; exceptions that are no errors are raised again
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
        if transport is None or transport.is_closing():  # the client has disconnected
            return
        transport.writelines((head, body))
        if self._paused:
            await self._drain_helper()
        # As aiohttp does between two requests: its timer closes an idle connection.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    async def _drain_helper(self) -> None:
        """Wait until the client has read most of the sent bytes; disconnect it after the timeout."""
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await super()._drain_helper()
        except TimeoutError:
            self._force_close = True
            if self.transport is not None:
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request; its head must be complete within the timeout, counted from its first byte."""
        super().data_received(data)
        waiter = self._waiter
        # Bytes came but no request is complete: they are a part of a head.
        if waiter is not None and waiter is not self._waiting and not waiter.done():
            self._stop_clock()
            self._waiting = waiter
            self._cut = self._loop.call_later(self._limits.timeout_s, self._cut_head)

    def read_no_more(self) -> None:
        """Close after the present response, without reading the rest of the request."""
        self._lingering_time = 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer of the connection."""
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
        """Send a response; errors from before any handler, as for an unknown `Expect`, become JSON, too."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = answer_to(resp, request.method, request.path).response()
            resp.force_close()  # it is unknown if its body follows
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the response to a malformed request, after which the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun, and another cannot follow")
        if status >= 500:  # a defect that `json_errors` cannot see
            log.error("%s %s", request.method, request.path, exc_info=exc)
            answer = error_answer(status, Internal.code, Internal.default_message)
        else:
            reason = (message or "").partition("\n")[0].strip().rstrip(":")
            answer = error_answer(status, InvalidRequest.code, f"this is not HTTP: {reason or exc}")
        response = answer.response()
        response.force_close()
        return response


async def _drop(body: StreamReader) -> None:
    """Read and drop the rest of a body, within a time limit."""
    try:
        async with asyncio.timeout(_LINGER_S):
            while not body.is_eof():
                await body.readany()
    except TimeoutError:
        pass


def make_app(
    settings: GatewaySettings,
    routes: Iterable[web.RouteDef],
    authenticator: Authenticator,
    converters: Sequence[Middleware] = (),
) -> web.Application:
    """Return the HTTP application; `converters` change the form of answers of some paths."""
    app = web.Application(
        middlewares=[encode_answers, *converters, json_errors, authorization(authenticator)],
        client_max_size=settings.max_body_bytes,
    )
    app.add_routes(routes)
    return app


@asynccontextmanager
async def http_listening(
    app: web.Application, inference: InferenceRoutes, settings: GatewaySettings, tls: ListenerTls | None
) -> AsyncGenerator[str]:
    """Serve queries with `inference` and all other requests with `app` while the context is open; yield the URL."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=settings.request_drain_s)
    await runner.setup()
    try:
        listener = await _listen(runner, inference, settings, tls)
        try:
            host, port = listener.sockets[0].getsockname()[:2]
            yield f"http{'s' * (tls is not None)}://{address_text(host, port)}"
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, inference: InferenceRoutes, settings: GatewaySettings, tls: ListenerTls | None
) -> asyncio.Server:
    # As web.TCPSite does, but with a protocol of ours: a site accepts no other protocol.
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None, "a runner has a server once it is set up"
    limits = ConnectionLimits(connections=settings.max_connections, timeout_s=settings.receive_timeout_s)
    try:
        return await loop.create_server(
            lambda: HttpConnection(server, loop, inference, limits),
            settings.host,
            settings.port,
            backlog=1024,
            reuse_port=settings.reuse_port or None,
            **(tls.server_options(settings.receive_timeout_s) if tls is not None else {}),
        )
    except OSError as error:
        raise OperatorError(listen_words(settings.host, settings.port, error, "--port")) from error
