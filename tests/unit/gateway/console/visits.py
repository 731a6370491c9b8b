"""Visits of the console's pages on a system whose endpoints give stated results."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from admin.activity import LoadHistory, ScaleTimeline
from admin.api import Endpoint
from admin.overview import Overview
from gateway.console.page import Page
from gateway.console.pages import PAGES
from gateway.console.rendering import Rendering
from gateway.console.routes import menu_of
from gateway.console.visit import Visit
from schemas.access import ANYONE, Principal
from schemas.rows.cluster import ClusterRows, ScaleControl

AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
EMPTY_CLUSTER: Final = ClusterRows(
    control=ScaleControl(paused=False, changed_by="", changed_at=AT), wanted=[], workers=[], instances=[], pins=[]
)
EMPTY: Final[Mapping[str, Any]] = {
    "overview.show": Overview(seconds=60, problems=[], paused=False, tasks=[], workers=[], decisions=[]),
    "scale.status": EMPTY_CLUSTER,
    "scale.timeline": ScaleTimeline(times=[], instances=[], workers=[], decisions=[]),
    "tasks.load": LoadHistory(task="digits", step_s=10, times=[], until=None, classes=[]),
}
"""Results of an empty system by endpoint; all others are empty lists."""
RENDERING: Final = Rendering("1")


async def _no_answer(_request: web.Request) -> web.Response:
    raise NotImplementedError


ROUTER: Final = web.UrlDispatcher()
ROUTER.add_routes(web.get(page.path, _no_answer) for page in PAGES)


async def page_at(path: str) -> tuple[Page, Mapping[str, str]]:
    """Return the page at an address, and the names in it."""
    found = await ROUTER.resolve(make_mocked_request("GET", path))
    resource = found.route.resource
    assert resource is not None, f"no page has the address {path}"
    [page] = [one for one in PAGES if one.path == resource.canonical]
    return page, found


class Site:
    """Console of a system.

    Args:
        results: results by endpoint; those of other ones are of an empty system.
        principal: caller.
    """

    def __init__(self, results: Mapping[str, Any] = {}, principal: Principal = ANYONE) -> None:
        self._results = {**EMPTY, **results}
        self._principal = principal

    async def page(self, path: str) -> str:
        """Return a page."""
        page, visit = await self._visit(path)
        return RENDERING.page(page, visit, menu_of(visit), await page.load(visit))

    async def live(self, path: str) -> dict[str, str]:
        """Return the live blocks of a page by name."""
        page, visit = await self._visit(path)
        return RENDERING.live(page, visit, await page.load(visit))

    async def _visit(self, path: str) -> tuple[Page, Visit]:
        page, names = await page_at(path)
        request = make_mocked_request("GET", path, match_info=names)
        return page, Visit(request, self._principal, "t" * 43, self._execute)

    async def _execute(self, _: web.Request, _caller: Principal, endpoint: Endpoint[Any, Any], asked: Any) -> Any:
        result = self._results.get(endpoint.name, [])
        if isinstance(result, Exception):
            raise result
        limit = getattr(asked, "limit", getattr(asked, "latest", None))
        return result if limit is None else result[:limit]
