"""The least that a server can do with what it will not serve: `python -m bench.load_client.bare_refuser PORT BYTES`.

It counts bytes. All requests are alike, BYTES long, and each gets the same refusal; nothing is parsed or looked up. So
what it costs is what sockets and an event loop cost, and nobody can refuse in Python for less.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

from process.ports import LOOPBACK

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
        """Keep where refusals go."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, which is none by its type

    def data_received(self, data: bytes) -> None:
        """Refuse each whole request."""
        whole, self._received = divmod(self._received + len(data), self._request_bytes)
        if whole:
            self._transport.write(_REFUSAL * whole)


async def refuse(port: int, request_bytes: int) -> None:
    """Refuse on a port of this machine, until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: BareRefuser(request_bytes), LOOPBACK, port)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(refuse(int(sys.argv[1]), int(sys.argv[2])))
