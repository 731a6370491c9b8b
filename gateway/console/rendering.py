"""Rendering of pages and their updates, static files, and the headers of all answers.

Templates escape all values. The policy of the pages permits scripts and styles from files of the console alone, none
that is inline, so a text that slips into a page cannot act. Static files are read once; their addresses contain a hash
of the content, so browsers keep them for a year.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.console.page import Page
from gateway.console.visit import Visit
from gateway.http.authorization import CONSOLE
from schemas.hardware import usd

_HERE: Final = Path(__file__).parent
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers would hide the origin of a form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every page."""


def html_response(html: str, status: int = 200) -> web.Response:
    """Answer with a page, or a part of one."""
    return web.Response(text=html, status=status, content_type="text/html", headers=HEADERS)


class StaticFiles:
    """Static files with their addresses."""

    def __init__(self) -> None:
        paths = [path for path in sorted((_HERE / "static").iterdir()) if path.suffix in _TYPES]
        self._content = {path.name: path.read_bytes() for path in paths}
        self._hashes = {name: sha256(content).hexdigest()[:16] for name, content in self._content.items()}

    def address(self, name: str) -> str:
        """Return the address of a file."""
        return f"{CONSOLE}/static/{name}?v={self._hashes[name]}"

    def answer(self, name: str) -> web.Response:
        """Return the response with a file.

        Raises:
            HTTPNotFound: there is no such file.
        """
        content = self._content.get(name)
        if content is None:
            raise web.HTTPNotFound(reason="the console has no such file")
        headers = HEADERS | {
            "Content-Type": f"{_TYPES[Path(name).suffix]}; charset=utf-8",
            "Cache-Control": "public, max-age=31536000, immutable",
        }
        return web.Response(body=content, headers=headers)


class Rendering:
    """Renderer of the console's templates."""

    def __init__(self, version: str) -> None:
        self.static = StaticFiles()
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        shared: dict[str, Any] = self._templates.globals
        shared |= {"static": self.static.address, "version": version, "console": CONSOLE}
        shared |= {"visit": None, "menu": (), "page": None}  # of a page without a known caller
        self._templates.filters |= FILTERS
        shared["ui"] = self._templates.get_template("ui.html").make_module({})

    def text(self, template: str, **variables: Any) -> str:
        """Return a template with these variables."""
        return self._templates.get_template(template).render(variables)

    def page(self, page: Page, visit: Visit, menu: Iterable[Page], variables: Mapping[str, Any]) -> str:
        """Return a whole page."""
        return self.text(page.template, page=page, visit=visit, menu=menu, **variables)

    def sign_in(self, target: str, problem: str, issuer: str, status: int) -> web.Response:
        """Answer with the form that signs in and leads to `target`; without an `issuer`, it offers keys alone."""
        return html_response(self.text("sign_in.html", target=target, problem=problem, issuer=issuer), status)

    def live(self, page: Page, visit: Visit, variables: Mapping[str, Any]) -> dict[str, str]:
        """Return the live blocks of a page by name."""
        template = self._templates.get_template(page.template)
        context = template.new_context({"page": page, "visit": visit, **variables})
        return {name: _squeezed("".join(template.blocks[name](context))) for name in page.live}


@cache
def rendering_of(version: str) -> Rendering:
    """Return the renderer that all gateways of a process share, as the templates take long to compile."""
    return Rendering(version)


def _squeezed(html: str) -> str:
    """Remove the indentation of lines."""
    return re.sub(r"\n\s*", "\n", html).strip()


def _number(form: str, factor: float = 1.0) -> Callable[[float | None], str]:
    """Return the function that formats a number times a factor."""
    return lambda value: "-" if value is None else format(value * factor, form)


def _amount(usd_amount: float | None) -> str:
    return "-" if usd_amount is None else usd(usd_amount)


def _when(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _packed(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _json(value: Any) -> str:
    return msgspec.json.format(_packed(value))


FILTERS: Final = {
    "count": _number(",.0f"),
    "rate": _number(",.1f"),
    "percent": _number(".1%"),
    "ratio": _number(".3f"),
    "ms": _number(",.1f", 1e3),
    "mib": _number(",.0f", 1 / (1 << 20)),
    "usd": _amount,
    "when": _when,
    "json": _json,
    "packed": _packed,
}
"""Formats of values, by their names in templates; an unknown value is a dash."""
