"""Routes of the documentation: the API's document and page, and the manual as a site where one is installed."""

from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from schemas.documents import openapi, page

PACKAGED: Final = Path(__file__).resolve().parents[2] / "manual"
"""Folder of the manual in an installed package that was built with one."""
_PAGE_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of the API's page, which loads nothing."""


@cache
def _api() -> tuple[bytes, bytes]:
    """Return the API's document and its page, which take most of a gateway's start; those of a process are the same."""
    content = openapi.document()
    return msgspec.json.encode(content), page.page(content).encode()


class ManualRoutes:
    """Handlers of the routes of the documentation, which are open to everybody."""

    def __init__(self, folder: Path | None = None) -> None:
        """Serve the manual in a folder; None: the packaged one, if there is one."""
        self._document, self._page = _api()
        self._folder = (folder or PACKAGED).resolve()
        self._has_manual = (self._folder / "index.html").is_file()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get("/openapi.json", self._api_document),
            web.get("/docs", self._first_page),
            web.get("/docs/api", self._api_page),
            *([web.get("/docs/{path:.+}", self._manual_file)] if self._has_manual else []),
        ]

    async def _api_document(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _api_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=_PAGE_HEADERS)

    async def _first_page(self, request: web.Request) -> web.Response:
        if self._has_manual:
            return web.Response(status=302, headers={"Location": "/docs/index.html"})
        return await self._api_page(request)

    async def _manual_file(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["path"]
        file = self._folder / name
        try:
            is_page = "\0" not in name and file.resolve().is_relative_to(self._folder) and file.is_file()
        except OSError:  # such as a name that is too long
            is_page = False
        if not is_page:
            raise web.HTTPNotFound(reason=f"the manual has no page {name[:80]!r}")
        return web.FileResponse(file)
