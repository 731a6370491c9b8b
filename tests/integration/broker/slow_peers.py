"""Peers of a receiver of results that never finish their handshake: `python -m ... HOST PORT COUNT`.

They have a process of their own: in the receiver's event loop they would take its time for themselves.
"""

import asyncio
import sys
from contextlib import suppress

from broker.replies.protocol import new_hello


async def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(drip(host, port))


async def drip(host: str, port: int) -> None:
    """Send a byte of the handshake each quarter of a second, and reconnect as soon as disconnected."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            ended = asyncio.ensure_future(reader.read())
            try:
                for byte in new_hello()[:-1]:
                    writer.write(bytes([byte]))
                    await asyncio.wait({ended}, timeout=0.25)
                    if ended.done():
                        break
            finally:
                ended.cancel()
                writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main())
