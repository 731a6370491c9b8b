"""Queries to a gateway over HTTP, with the same bytes and headers as over Kafka; one connection per query in flight."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import aiohttp

from broker.replies.answer_stream import AnswerStream, OnPart, stream_answer
from infaas.client.event_reader import EventReader
from infaas.client.transport import EncodedQuery
from process.backoff import Backoff
from process.gateway_access import ClientTls, own_headers, why_unreached
from process.sockets import open_files_limit
from schemas import headers as h
from schemas.errors import DeadlineExceeded, ErrorCode, Internal, RefusalReason
from schemas.result import OK, Result, parse_result

_CODES: Final = {
    400: ErrorCode.INVALID_REQUEST,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.INVALID_REQUEST,  # an INFaaS gateway reports an unknown task itself
    413: ErrorCode.INVALID_REQUEST,
    422: ErrorCode.UNSATISFIABLE,
    429: ErrorCode.QUOTA_EXCEEDED,
    502: ErrorCode.OVERLOADED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.DEADLINE_EXCEEDED,
}
"""Error codes by HTTP status, for answers of a proxy in front of the gateway."""

_AGAIN: Final = Backoff(first_s=0.1, longest_s=2.0, jitter=0.2)
"""Pauses before a query whose connection was lost is sent again."""
_RESENDS: Final = 3
"""Times that a query is sent again after answers that were cut, unless its text grows."""


class HttpTransport:
    """Transport over HTTP. Queries beyond `max_in_flight` wait for a connection.

    The number of connections is also limited to half of the files that this process may open, to leave the rest to the
    program.
    """

    def __init__(self, url: str, key: str, max_in_flight: int, tls: ClientTls) -> None:
        self._own_headers = own_headers(url, key)
        self._tls = tls
        self._url = url.rstrip("/").removesuffix("/v2")
        self._most_connections = min(max_in_flight, open_files_limit(max_in_flight * 2) // 2)
        self._slots = asyncio.Semaphore(self._most_connections)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._most_connections, ssl=self._tls.context() if self._url.startswith("https:") else True
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            headers=self._own_headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def ask(self, query: EncodedQuery) -> Result:
        """Send a query and return its result; see `Transport.ask`."""
        assert self._http is not None, "used outside its context"
        headers = {h.ID: query.id, h.CONTENT_TYPE: query.message.content_type, **query.fields}
        if query.message.json_length is not None:
            headers[h.JSON_LENGTH] = str(query.message.json_length)
        url = f"{self._url}/v2/models/{quote(query.task, safe='')}/infer"
        async with self._slots:
            try:
                async with (
                    asyncio.timeout(query.timeout_s),
                    self._http.post(url, data=query.message.value, headers=headers) as response,
                ):
                    return _result(query.id, response.status, response.headers, await response.read())
            except TimeoutError:
                message = f"there was no result within {query.timeout_s:g} s"
                raise DeadlineExceeded(message, reason=RefusalReason.NO_RESULT) from None
            except aiohttp.ClientError as error:
                raise Internal(why_unreached(self._url, error)) from error

    @asynccontextmanager
    async def stream(self, query: EncodedQuery) -> AsyncGenerator[AnswerStream]:
        """Send a query and provide the parts of its answer; see `Transport.stream`.

        If a connection that was made is lost, the query is sent again with the same id; text that was given already is
        not given again. A server that cuts one answer after another, and no text follows, ends this after a few times.
        """
        async with self._slots, stream_answer(lambda on_part: self._ask_until_answered(query, on_part)) as events:
            yield events

    async def _ask_until_answered(self, query: EncodedQuery, on_part: OnPart) -> Result:
        reader, connected, failures, cut = EventReader(query, on_part), False, 0, 0
        lost_s = time.monotonic()
        while True:
            try:
                return await self._read_events(query, reader)
            except TimeoutError:
                message = f"no part of the answer came within {query.timeout_s:g} s"
                raise DeadlineExceeded(message, reason=RefusalReason.NO_RESULT) from None
            except aiohttp.ClientError as error:
                now_s = time.monotonic()
                connected |= not isinstance(error, aiohttp.ClientConnectorError)
                lost_s, failures = (now_s, 1) if reader.heard else (lost_s, failures + 1)
                cut = 0 if reader.grown else cut + reader.heard
                if not connected or cut >= _RESENDS or now_s - lost_s > query.timeout_s:
                    raise Internal(why_unreached(self._url, error)) from error
            reader.connect_again()
            await asyncio.sleep(_AGAIN.pause_s(failures))

    async def _read_events(self, query: EncodedQuery, reader: "EventReader") -> Result:
        assert self._http is not None, "used outside its context"
        url = f"{self._url}/v2/models/{quote(query.task, safe='')}/generate_stream"
        headers = {h.ID: query.id, **query.fields}
        headers.pop(h.BATCH, None)
        body = {"text_input": query.prompt, "id": query.id, "parameters": dict(query.parameters)}
        async with (
            asyncio.timeout(query.timeout_s) as limit,
            self._http.post(url, json=body, headers=headers) as response,
        ):
            if response.status != 200 or response.content_type != "text/event-stream":
                return _result(query.id, response.status, response.headers, await response.read())
            async for data in response.content.iter_any():
                limit.reschedule(asyncio.get_running_loop().time() + query.timeout_s)
                if (result := reader.feed(data)) is not None:
                    return result
        raise aiohttp.ServerDisconnectedError


def _result(query_id: str, status: int, headers: Mapping[str, str], value: bytes) -> Result:
    fields = {name.lower(): text for name, text in headers.items()}
    fields.setdefault(h.ID, query_id)
    seconds = fields.get("retry-after", "")
    if seconds.isdecimal():  # the header may also be a date
        fields.setdefault(h.RETRY_AFTER_MS, f"{seconds}000")
    fields.setdefault(h.STATUS, OK if status == 200 else _CODES.get(status, ErrorCode.INTERNAL))
    return parse_result(fields, value)
