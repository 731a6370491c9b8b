"""What a request is answered with, before anything of HTTP: a status, a few headers, a body."""

import asyncio
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from gateway.http.encodings import WORTH_BYTES, accepted_encoding, compress, shrinks

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CLOSE: Final = "Connection: close\r\n"
_LONG_BYTES: Final = 64 * 1024
"""Bodies from here on are compressed beside the event loop: they would hold it up for a millisecond or more."""


class HttpAnswer(NamedTuple):
    """The answer to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        """The answer as a handler of aiohttp returns it."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    def head(self, *, close: bool) -> bytes:
        """The bytes of HTTP/1.1 in front of the body; `close` tells the client that the connection ends here.

        Raises:
            ValueError: a header would end its line, and begin another one.
        """
        fields = "".join([f"{name}: {text}\r\n" for name, text in self.headers.items()])
        if not fields.count("\r") == fields.count("\n") == len(self.headers):
            raise ValueError("a header of the answer holds the end of a line")
        length, date = len(self.body), rfc822_formatted_time()
        rest = f"Content-Length: {length}\r\nDate: {date}\r\n{_CLOSE if close else ''}\r\n"
        return f"{_STATUS_LINES[self.status]}{fields}{rest}".encode()


async def packed(answer: HttpAnswer, accepted: str) -> HttpAnswer:
    """The answer in the encoding that a client likes best, as its `Accept-Encoding` says, where that pays."""
    encoding = accepted_encoding(accepted) if len(answer.body) >= WORTH_BYTES else None
    if encoding is None or not shrinks(answer.body):
        return answer
    if len(answer.body) < _LONG_BYTES:
        body = compress(answer.body, encoding)
    else:
        body = await asyncio.to_thread(compress, answer.body, encoding)
    return HttpAnswer(answer.status, answer.headers | {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}, body)
