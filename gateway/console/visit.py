"""One request to the console with its caller, through which pages and acts reach the endpoints of `admin/`."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from aiohttp import web

from admin.api import Endpoint, from_form
from gateway.auth.authenticator import require_role
from schemas.access import ANYONE, Principal, Role

Q = TypeVar("Q")
R = TypeVar("R")
Execute = Callable[[web.Request, Principal, Endpoint[Any, Any], Any], Awaitable[Any]]
"""Executes an endpoint for a caller, with the checks, the deadline and the turn of the admin API."""
HTMX: Final = "HX-Request"


class Visit(NamedTuple):
    """Request of a known caller."""

    request: web.Request
    principal: Principal
    token: str
    """Token of the caller's forms."""
    execute: Execute

    @property
    def is_signed_in(self) -> bool:
        """True if the caller has authenticated."""
        return self.principal is not ANYONE

    @property
    def is_admin(self) -> bool:
        """True if the caller may see and change everything."""
        return self.principal.has(Role.ADMIN)

    @property
    def is_fragment(self) -> bool:
        """True if a script of the page shows the answer within the page."""
        return HTMX in self.request.headers

    def may(self, endpoint: Endpoint[Any, Any]) -> bool:
        """Return true if the caller has the role that an endpoint requires."""
        return self.principal.has(endpoint.role)

    def text(self, name: str) -> str:
        """Return a parameter of the query string; empty if there is none."""
        return self.request.query.get(name, "")

    def number(self, name: str) -> int:
        """Return a parameter of the query string that is a number; 1 if it is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1

    def link(self, name: str, value: object) -> str:
        """Return the address of this page with another value of one parameter."""
        return str(self.request.rel_url.update_query({name: str(value)}))

    async def call(self, endpoint: Endpoint[Q, R], **fields: object) -> R:
        """Execute an endpoint with a request of these fields.

        Raises:
            Forbidden: the caller lacks the role.
            InvalidRequest: a field is invalid.
            InfaasError: the endpoint failed.
        """
        asked = from_form(endpoint, [(name, str(value)) for name, value in fields.items() if value is not None])
        return await self.act(endpoint, asked)

    async def act(self, endpoint: Endpoint[Q, R], asked: Q) -> R:
        """Execute an endpoint; raises as `call`."""
        require_role(self.principal, endpoint.role)
        return await self.execute(self.request, self.principal, endpoint, asked)
