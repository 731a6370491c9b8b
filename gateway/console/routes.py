"""All routes of the console: identifies callers, opens pages, executes acts, and answers errors as pages.

    GET  a page         the whole page; with `Accept: text/event-stream` its updates
    POST an act's path  executes it; the answer is a fragment for a script, else a page

Rules:
* The caller is identified by the session of the cookie, or else as by the API: key, token, certificate. Without
  authentication every process of this machine is a caller, as it is for the API.
* An act carries the token of its form and must not come from a page of another site. Reading pages may be opened from
  elsewhere, as a link, but not be embedded.
"""

import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from admin.api import from_form
from gateway.auth.authenticator import Authenticator, require_role
from gateway.console.forms import Form, read_form
from gateway.console.page import Act, ActOutcome, Page
from gateway.console.pages import ACTS, PAGES
from gateway.console.rendering import html_response, rendering_of
from gateway.console.sessions import SessionCodec
from gateway.console.sign_in import SignIn
from gateway.console.stream import Changes, send_updates
from gateway.console.visit import Visit
from gateway.http.admin import AdminRoutes, check_host, check_no_foreign_page
from gateway.http.answers import answer_to
from gateway.http.authorization import CONSOLE, set_principal
from gateway.http.bodies import RequestBodies
from gateway.limits.connections import CallLimit
from gateway.settings import GatewaySettings
from schemas.access import ANYONE, Principal, Role
from schemas.errors import Forbidden, InfaasError, NotFound, OperatorError, Unauthenticated

TOKEN_HEADER: Final = "X-Infaas-Form"
"""Header with the token of a form, sent by scripts."""
_STREAMS: Final = 150
_STREAMS_EACH: Final = 50
_STREAMS_ADMIN: Final = 50
"""Maximum number of open pages of administrators, who must see the system when tenants use up theirs."""
_MOST_SHOWN: Final = 300
Serve = Callable[[Visit], Awaitable[web.StreamResponse]]


class ConsoleRoutes:
    """Handlers of the console.

    Args:
        settings: settings of the gateway.
        authenticator: authenticator of callers without a session.
        admin: executes endpoints.
        bodies: reader of request bodies.
        secret: secret of the system, which signs sessions.
        version: version of this process.
    """

    def __init__(
        self, settings: GatewaySettings, authenticator: Authenticator, admin: AdminRoutes, bodies: RequestBodies,
        secret: bytes, version: str,
    ) -> None:  # fmt: skip
        self._admin = admin
        self._bodies = bodies
        self._rendering = rendering_of(version)
        self._codec = SessionCodec(secret, time.time)
        self._sign_in = SignIn(settings, authenticator, self._codec, self._rendering, bodies)
        self._streams = OpenPages()
        self.changes = Changes()
        """Ends the updates of open pages when the gateway stops."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get(f"{CONSOLE}/", self._to_overview),
            web.get(f"{CONSOLE}/static/{{name}}", self._static),
            *self._sign_in.routes(),
            *(web.get(page.path, self.handler(partial(self._page, page))) for page in PAGES),
            *(web.post(act.path, self.handler(partial(self._act, act))) for act in ACTS),
        ]

    async def end(self, _app: web.Application) -> None:
        """End the updates of open pages, for which a shutdown would wait."""
        self.changes.end()

    def handler(self, serve: Serve) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the handler that identifies the caller and answers errors as pages."""

        async def handle(request: web.Request) -> web.StreamResponse:
            visit = None
            try:
                visit = await self._visit(request)
                return await serve(visit)
            except Unauthenticated as error:
                return self._sign_in.ask(request, str(error))
            except Exception as error:  # noqa: BLE001 - top of a request; exceptions that are no errors are raised again
                return self._problem(request, visit, error)

        return handle

    async def _visit(self, request: web.Request) -> Visit:
        principal, subject = await self._sign_in.identify(request)
        set_principal(request, principal)
        known = principal is not ANYONE
        if request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate":  # a link, perhaps elsewhere
            if not known:
                check_host(request.headers)
        else:
            check_no_foreign_page(request.headers, known_clients=known)
        return Visit(request, principal, self._codec.token(subject), self._admin.execute)

    # -- pages ---------------------------------------------------------------------------------------------------------
    async def _page(self, page: Page, visit: Visit) -> web.StreamResponse:
        require_role(visit.principal, page.role)
        if "text/event-stream" not in visit.request.headers.get("Accept", ""):
            return html_response(self._rendering.page(page, visit, menu_of(visit), await page.load(visit)))
        with self._streams.taken(visit.principal):
            return await send_updates(visit.request, partial(self._live, page, visit.request), self.changes)

    async def _live(self, page: Page, request: web.Request) -> dict[str, str]:
        visit = await self._visit(request)
        require_role(visit.principal, page.role)
        return self._rendering.live(page, visit, await page.load(visit))

    # -- acts ----------------------------------------------------------------------------------------------------------
    async def _act(self, act: Act, visit: Visit) -> web.StreamResponse:
        form = await self.read_form(visit)
        asked = from_form(act.endpoint, act.prepare(form.fields))
        outcome = act.tell(await visit.act(act.endpoint, asked))
        if outcome.changed:
            self.changes.notify()
        return self.outcome(visit, outcome)

    async def read_form(self, visit: Visit, *, files: bool = False) -> Form:
        """Read the form of an act, which may have `files`, and check its token.

        Raises:
            Forbidden: the form is not from a page of this session.
        """
        request = visit.request
        if sent := request.headers.get(TOKEN_HEADER, ""):
            check_token(visit, sent)
        async with self._bodies.reading(request.content, request.headers) as body:
            form = read_form(request.headers.get("Content-Type", ""), body, files=files)
        check_token(visit, form.token or sent)
        return form

    def outcome(self, visit: Visit, outcome: ActOutcome) -> web.Response:
        """Answer with the outcome of an act."""
        return self.fragment("outcome_part.html", visit, outcome=outcome)

    def fragment(self, template: str, visit: Visit, **variables: object) -> web.Response:
        """Answer with a template as a part of a page or, without scripts, as a page."""
        html = self._rendering.text(template, visit=visit, **variables)
        if not visit.is_fragment:
            html = self._rendering.text("whole.html", visit=visit, menu=menu_of(visit), inner=html)
        return html_response(html)

    # -- answers -------------------------------------------------------------------------------------------------------
    def _problem(self, request: web.Request, visit: Visit | None, error: Exception) -> web.Response:
        status, message = explained(error, request)
        template = "problem_part.html" if visit is not None and visit.is_fragment else "problem.html"
        menu = () if visit is None else menu_of(visit)
        html = self._rendering.text(template, visit=visit, menu=menu, status=status, message=message)
        return html_response(html, status)

    async def _static(self, request: web.Request) -> web.Response:
        return self._rendering.static.answer(request.match_info["name"])

    async def _to_overview(self, _request: web.Request) -> web.Response:
        raise web.HTTPFound(CONSOLE)


class OpenPages:
    """Limits of the pages that are updated; those of a tenant count together, from whatever addresses they come."""

    def __init__(self) -> None:
        self._of_tenants = CallLimit("open pages", _STREAMS, _STREAMS_EACH)
        self._of_administrators = CallLimit("open pages", _STREAMS_ADMIN, _STREAMS_ADMIN)

    def taken(self, principal: Principal) -> AbstractContextManager[None]:
        """Hold a place while the context is open.

        Raises:
            Overloaded: no place is free.
        """
        limit = self._of_administrators if principal.has(Role.ADMIN) else self._of_tenants
        return limit.taken(principal.tenant or principal.name)


def check_token(visit: Visit, token: str) -> None:
    """Check the token that a form, or the header of its request, contains.

    Raises:
        Forbidden: the form is not from a page of this session.
    """
    if not hmac.compare_digest(token.encode(errors="replace"), visit.token.encode()):
        raise Forbidden("this form was not sent by a page of your session: reload the page, and try again")


def menu_of(visit: Visit) -> Sequence[Page]:
    """Return the pages of the menu that the caller may open."""
    return [page for page in PAGES if page.menu and visit.principal.has(page.role)]


def explained(error: Exception, request: web.Request) -> tuple[int, str]:
    """Return the HTTP status and the text for an error; raise HTTP exceptions again that are no errors."""
    if isinstance(error, NotFound):
        return 404, str(error)
    if isinstance(error, OperatorError):
        return 409, str(error)
    answer = answer_to(error, request.method, request.path)
    content = msgspec.json.decode(answer.body, type=dict[str, object])
    said = str(error) if isinstance(error, InfaasError) else str(content.get("error", ""))
    return answer.status, said[:_MOST_SHOWN]
