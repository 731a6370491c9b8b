"""Bare aiohttp server: one process per worker, all on one port, each computing on its event loop."""

import asyncio
import os

import uvloop
from aiohttp import web

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


async def serve(settings: PeerSettings) -> None:
    """Serve until killed."""
    model = OnnxModel(settings)

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=model.answer(await request.read()))

    app = web.Application()
    app.add_routes([web.post("/", handle)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", settings.port, reuse_port=True).start()
    await asyncio.Event().wait()


def main() -> None:
    """Fork the other workers and serve."""
    settings = PeerSettings()
    for _ in range(settings.workers - 1):
        if os.fork() == 0:
            break
    uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
