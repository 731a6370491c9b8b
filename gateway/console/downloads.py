"""The results of batches as downloads: the files of OpenAI's API, with the session in place of a key."""

from aiohttp import web

from gateway.console.routes import ConsoleRoutes
from gateway.console.visit import Visit
from gateway.openai.files import FileRoutes


class DownloadRoutes:
    """Handler of downloads."""

    def __init__(self, console: ConsoleRoutes, files: FileRoutes) -> None:
        self._console = console
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        """Return the route to add to the application."""
        return [web.get("/console/files/{id}", self._console.handler(self._download))]

    async def _download(self, visit: Visit) -> web.StreamResponse:
        row = await self._files.find(visit.request.match_info["id"], visit.principal.owner)
        headers = {"Content-Disposition": f'attachment; filename="{row.id}.jsonl"', "X-Content-Type-Options": "nosniff"}
        return await self._files.send(visit.request, row, headers)
