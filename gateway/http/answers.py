"""What a request is answered with, before anything of HTTP: a status, a few headers, a body."""

from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CLOSE: Final = "Connection: close\r\n"


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
