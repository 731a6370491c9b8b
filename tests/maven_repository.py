"""Maven repository on loopback."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from process.sockets import free_port


class Repository:
    """Maven repository that counts the requests of each path and the most concurrent requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self.failures: dict[str, list[int]] = {}
        """Statuses by path that are returned, in order, before the file."""
        self._now = 0

    async def answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.asked[path] += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if self.failures.get(path):
            return web.Response(status=self.failures[path].pop(0))
        return web.Response(body=self.files[path]) if path in self.files else web.Response(status=404)


@asynccontextmanager
async def serving(repository: Repository) -> AsyncGenerator[str]:
    """Serve the repository while the context is open; yield its URL."""
    app, port = web.Application(), free_port()
    app.router.add_get("/maven2/{path:.+}", repository.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}/maven2/"
    finally:
        await runner.cleanup()
