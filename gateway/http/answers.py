"""Response to a request, independent of the HTTP implementation: status, some headers, body."""

import asyncio
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from gateway.http.encodings import WORTH_BYTES, accepted_encoding, compress, shrinks

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CLOSE: Final = "Connection: close\r\n"
_LONG_BYTES: Final = 64 * 1024
"""Size from which on bodies are compressed in a thread: they would block the event loop for a millisecond or more."""


class HttpAnswer(NamedTuple):
    """Response to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        """Return the response of a handler of aiohttp."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    def head(self, *, close: bool) -> bytes:
        """Return the bytes of HTTP/1.1 before the body; `close` announces the end of the connection.

        Raises:
            ValueError: a header contains a line break, which would forge another header.
        """
        fields = "".join([f"{name}: {text}\r\n" for name, text in self.headers.items()])
        if not fields.count("\r") == fields.count("\n") == len(self.headers):
            raise ValueError("a header of the answer holds the end of a line")
        length, date = len(self.body), rfc822_formatted_time()
        rest = f"Content-Length: {length}\r\nDate: {date}\r\n{_CLOSE if close else ''}\r\n"
        return f"{_STATUS_LINES[self.status]}{fields}{rest}".encode()


async def packed(answer: HttpAnswer, accepted: str) -> HttpAnswer:
    """Return the response in the encoding that `Accept-Encoding` prefers, if compression pays."""
    encoding = accepted_encoding(accepted) if len(answer.body) >= WORTH_BYTES else None
    if encoding is None or not shrinks(answer.body):
        return answer
    if len(answer.body) < _LONG_BYTES:
        body = compress(answer.body, encoding)
    else:
        body = await asyncio.to_thread(compress, answer.body, encoding)
    return HttpAnswer(answer.status, answer.headers | {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}, body)
