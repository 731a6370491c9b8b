"""Cheapest possible refusal of requests: `python -m bench.load.bare_refuser PORT BYTES`.

It only counts bytes: all requests have BYTES bytes, and each gets the same refusal. Nothing is parsed or looked up, so
its cost is that of sockets and an event loop, the lower bound of a refusal in Python.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

from process.sockets import LOOPBACK

_BODY: Final = b'{"error":"too busy to answer in time; try again later"}'
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class BareRefuser(asyncio.Protocol):
    """One connection."""

    def __init__(self, request_bytes: int) -> None:
        self._request_bytes = request_bytes
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for refusals."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass

    def data_received(self, data: bytes) -> None:
        """Refuse each complete request."""
        whole, self._received = divmod(self._received + len(data), self._request_bytes)
        if whole:
            self._transport.write(_REFUSAL * whole)


async def refuse(port: int, request_bytes: int) -> None:
    """Refuse requests on a port of this machine, until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: BareRefuser(request_bytes), LOOPBACK, port)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(refuse(int(sys.argv[1]), int(sys.argv[2])))
