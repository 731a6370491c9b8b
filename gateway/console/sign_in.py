"""Sign-in to the console: by an API key, or at the issuer of tokens; and the identity of later requests.

The key is sent once, by a form, and becomes a session cookie that does not contain it. The cookie is sent to the
console alone, never with a request that another site causes, and no script can read it.
"""

from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway.auth.authenticator import Authenticator
from gateway.console.forms import read_form
from gateway.console.oidc import IssuerSignIn
from gateway.console.rendering import HEADERS, Rendering
from gateway.console.sessions import (
    COOKIE,
    ConsoleSession,
    SessionCodec,
    local_path,
    new_session,
    set_session_cookie,
)
from gateway.console.visit import HTMX
from gateway.http.admin import check_no_foreign_page
from gateway.http.authorization import CONSOLE, certified_names
from gateway.http.bodies import RequestBodies
from gateway.settings import GatewaySettings
from process.security.api_keys import PREFIX, read_key
from schemas.access import ANYONE, Principal
from schemas.errors import Forbidden, QueryError, Unauthenticated

SIGN_IN: Final = f"{CONSOLE}/sign-in"
SIGN_OUT: Final = f"{CONSOLE}/sign-out"
_MOST_BYTES: Final = 16 * 1024
"""Maximum size of the form, which anybody can send."""


class SignIn:
    """Handlers of sign-in and sign-out, and the identity of callers."""

    def __init__(
        self, settings: GatewaySettings, authenticator: Authenticator, codec: SessionCodec, rendering: Rendering,
        bodies: RequestBodies,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._authenticator = authenticator
        self._codec = codec
        self._rendering = rendering
        self._bodies = bodies
        offered = settings.oidc_issuer and settings.oidc_client_id
        self._issuer = IssuerSignIn(settings, authenticator, codec, rendering) if offered else None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get(SIGN_IN, self._form),
            web.post(SIGN_IN, self._enter),
            web.post(SIGN_OUT, self._leave),
            *(self._issuer.routes() if self._issuer else ()),
        ]

    async def identify(self, request: web.Request) -> tuple[Principal, str]:
        """Return the caller, and the subject of the caller's form tokens.

        Raises:
            Unauthenticated: the caller is unknown.
            Overloaded: the keys of the issuer cannot be read.
        """
        if not self._authenticator.is_on:
            return ANYONE, ANYONE.name
        cookie = request.cookies.get(COOKIE)
        session = self._codec.decode(cookie) if cookie else None
        if session is not None:
            return self._principal(session), session.nonce
        if cookie and "Authorization" not in request.headers:
            raise Unauthenticated("your session has ended: sign in again")
        principal = await self._authenticator.resolve(request.headers, certified_names(request))
        return principal, principal.name

    def ask(self, request: web.Request, reason: str) -> web.Response:
        """Answer a caller that has to sign in first."""
        target = f"{SIGN_IN}?next={quote(request.path_qs)}" if request.method == "GET" else SIGN_IN
        if HTMX in request.headers:
            return web.Response(status=401, text=reason, headers=HEADERS | {"HX-Redirect": target})
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return web.Response(status=303, headers=HEADERS | {"Location": target})
        return web.Response(status=401, text=reason, headers=HEADERS)

    def _principal(self, session: ConsoleSession) -> Principal:
        if session.principal is not None:
            return session.principal
        return self._authenticator.principal_of_key(session.key)

    async def _form(self, request: web.Request) -> web.Response:
        return self._page(request.query.get("next", CONSOLE))

    async def _enter(self, request: web.Request) -> web.Response:
        target = CONSOLE
        try:
            check_no_foreign_page(request.headers, known_clients=True)
            async with self._bodies.reading(request.content, request.headers, _MOST_BYTES) as body:
                form = read_form(request.headers.get("Content-Type", ""), body)
            target = local_path(form.text("next"))
            session = await self._session(form.text("key").strip())
        except QueryError as error:
            return self._page(target, str(error), error.http_status)
        response = web.Response(status=303, headers=HEADERS | {"Location": target})
        set_session_cookie(response, self._codec.encode(session), secure=self._settings.secure_cookies)
        return response

    async def _session(self, key: str) -> ConsoleSession:
        if not self._authenticator.is_on:
            raise Forbidden("this gateway authenticates nobody, so there is nothing to sign in to")
        if read_key(key) is None:
            raise Unauthenticated(f"this is not an API key: keys begin with `{PREFIX}`, as shown at their creation")
        principal = await self._authenticator.resolve({"authorization": f"Bearer {key}"})
        return new_session(key=principal.name)

    async def _leave(self, request: web.Request) -> web.Response:
        try:
            check_no_foreign_page(request.headers, known_clients=True)
        except QueryError as error:
            return self._page(CONSOLE, str(error), error.http_status)
        response = web.Response(status=303, headers=HEADERS | {"Location": SIGN_IN})
        set_session_cookie(response, "", secure=self._settings.secure_cookies)
        return response

    def _page(self, target: str, problem: str = "", status: int = 200) -> web.Response:
        issuer = self._settings.oidc_issuer if self._issuer else ""
        return self._rendering.sign_in(local_path(target), problem, issuer, status)
