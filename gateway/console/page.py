"""Declaration of the pages and acts of the console.

A page is a template with the function that loads its data. The blocks of the template that are named `live` are sent
again while the page is open, if they change. An act is an endpoint of `admin/` with the address of its form.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from admin.api import Endpoint
from gateway.console.visit import Visit
from schemas.access import Role

Fields = list[tuple[str, str]]
"""Names and values of a form's fields."""


class Page(NamedTuple):
    """Page of the console."""

    path: str
    title: str
    template: str
    load: Callable[[Visit], Awaitable[Mapping[str, Any]]]
    """Returns the variables of the template."""
    live: tuple[str, ...] = ()
    """Blocks of the template that are updated while the page is open."""
    role: Role = Role.QUERY
    """Lowest role that may open it."""
    menu: str = ""
    """Name in the menu; empty: it is reached from another page."""


class ActOutcome(NamedTuple):
    """Text that tells the result of an act."""

    text: str
    secret: str = ""
    """Secret that is shown only now."""
    link: str = ""
    """Address of the page to continue at; empty: the page stays."""
    link_text: str = ""
    changed: bool = True
    """False if everything is as it was, so no open page needs to be read again."""


class Act(NamedTuple):
    """Form of the console that executes an endpoint."""

    path: str
    endpoint: Endpoint[Any, Any]
    tell: Callable[[Any], ActOutcome]
    """Returns the text for the endpoint's result."""
    prepare: Callable[[Fields], Iterable[tuple[str, str]]] = list
    """Converts the form's fields into the endpoint's, if they differ."""


class PageRange(NamedTuple):
    """Rows of a long list that a page shows."""

    name: str
    """Parameter of the query string with the number of the page."""
    page: int
    pages: int
    total: int

    @property
    def previous(self) -> int | None:
        """Number of the page before it; None: it is the first."""
        return self.page - 1 if self.page > 1 else None

    @property
    def following(self) -> int | None:
        """Number of the page after it; None: it is the last."""
        return self.page + 1 if self.page < self.pages else None


def paged(visit: Visit, name: str, rows: list[Any], size: int = 20) -> dict[str, Any]:
    """Return a list as variables of a template: the rows of the requested page as `name`, its place as `name_range`."""
    shown, place = page_of(name, rows, visit.number(name), size)
    return {name: shown, f"{name}_range": place}


def page_of(name: str, rows: list[Any], number: int, size: int = 20) -> tuple[list[Any], PageRange]:
    """Return the rows of a page of a list, counted from 1, and its place. Pure."""
    pages = max(-(-len(rows) // size), 1)
    page = min(max(number, 1), pages)
    return rows[(page - 1) * size : page * size], PageRange(name, page, pages, len(rows))
