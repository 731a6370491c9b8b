"""API documentation of the gateway: the OpenAPI document, as JSON and as a page."""

from typing import Final

import msgspec
from aiohttp import web

from schemas.documents import openapi, page
from schemas.oip import JSON

_NOTHING_ELSE: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


class DocumentRoutes:
    """Handlers of the document, which is constant for the life of the process."""

    def __init__(self) -> None:
        content = openapi.document()
        self._json = msgspec.json.encode(content)
        self._page = page.page(content)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.get("/openapi.json", self.document), web.get("/docs", self.docs)]

    async def document(self, _request: web.Request) -> web.Response:
        """Answer with the OpenAPI document."""
        return web.Response(body=self._json, content_type=JSON)

    async def docs(self, _request: web.Request) -> web.Response:
        """Answer with the document as a page."""
        headers = {"Content-Security-Policy": _NOTHING_ELSE, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=self._page.encode(), headers=headers | {"Content-Type": "text/html; charset=utf-8"})
