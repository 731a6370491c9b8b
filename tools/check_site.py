"""Checks the built manual as a gateway serves it: `make docs-site`.

`llms.txt` must list every page, each by a link that works below `/docs`, where a gateway has the manual. Links between
pages are checked by Sphinx. A page that no longer exists stays in `build/site` until the folder is removed.

Exit codes: 0 all pages are listed and served; 1 one is not.
"""

import asyncio
import re
import sys
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from gateway.http.manual import ManualRoutes

LIST: Final = URL("/docs/llms.txt")
_LINK: Final = re.compile(r"^- \[[^\]]+\]\(([^)\s]+)\)", re.MULTILINE)
_SOURCE: Final = re.compile(r"/docs/_sources/(.+)\.md\.txt")
_OF_SPHINX: Final = {"genindex", "py-modindex", "search"}


async def problems(site: Path) -> list[str]:
    """Return the problems of a built manual; none if all pages are listed and served."""
    app = web.Application()
    app.add_routes(ManualRoutes(site).routes())
    async with TestClient(TestServer(app)) as http:

        async def read(path: str) -> str | None:
            async with http.get(path) as answer:
                return await answer.text() if answer.status == 200 else None

        links = [LIST.join(URL(link)).path for link in _LINK.findall(await read(LIST.path) or "")]
        pages = pages_of(site)
        asked = [LIST.path, "/docs/index.html", *links, *(f"/docs/{page}.html" for page in sorted(pages))]
        missing = [path for path in asked if await read(path) is None]
    unlisted = sorted(pages - {found[1] for link in links if (found := _SOURCE.fullmatch(link))})
    return [*(f"{path} is not served" for path in missing), *(f"{LIST} does not list {page}" for page in unlisted)]


def pages_of(site: Path) -> set[str]:
    """Return the names of the built pages."""
    return {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")} - _OF_SPHINX


def main() -> int:
    """Check the manual in the folder of the first argument and print the problems; returns the exit code."""
    found = asyncio.run(problems(Path(sys.argv[1])))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
