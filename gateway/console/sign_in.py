"""Sign-in to the console: by an API key, or at the issuer of tokens; and the identity of later requests.

The key is sent once, by a form, and becomes a session cookie that does not contain it. The cookie is sent to the
console alone, never with a request that another site causes, and no script can read it.
"""

import secrets
import time
from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway.auth.authenticator import Authenticator
from gateway.console.forms import read_form
from gateway.console.oidc import IssuerSignIn
from gateway.console.rendering import CONSOLE, HEADERS, Rendering
from gateway.console.sessions import SESSION_S, ConsoleSession, SessionCodec, local_path
from gateway.http.admin import check_no_foreign_page
from gateway.http.authorization import certified_names
from gateway.http.bodies import RequestBodies
from gateway.settings import GatewaySettings
from process.security.api_keys import PREFIX, read_key
from schemas.access import ANYONE, Principal
from schemas.errors import Forbidden, QueryError, Unauthenticated

COOKIE: Final = "infaas-console"
SIGN_IN: Final = f"{CONSOLE}/sign-in"
SIGN_OUT: Final = f"{CONSOLE}/sign-out"
_NONCE_BYTES: Final = 16
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
        parts = (settings, authenticator, codec, rendering, new_session, self._set_cookie)
        self._issuer = IssuerSignIn(*parts) if offered else None

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
        if "HX-Request" in request.headers:
            return web.Response(status=401, text=reason, headers=HEADERS | {"HX-Redirect": target})
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return web.Response(status=303, headers=HEADERS | {"Location": target})
        return web.Response(status=401, text=reason, headers=HEADERS)

    def _principal(self, session: ConsoleSession) -> Principal:
        if session.principal is not None:
            return session.principal
        return self._authenticator.principal_of_key(session.key)

    async def _form(self, request: web.Request) -> web.Response:
        return self._page(request, request.query.get("next", CONSOLE), "")

    async def _enter(self, request: web.Request) -> web.Response:
        target = CONSOLE
        try:
            check_no_foreign_page(request.headers, known_clients=True)
            async with self._bodies.reading(request.content, request.headers, _MOST_BYTES) as body:
                form = read_form(request.headers.get("Content-Type", ""), body)
            target = local_path(form.text("next"))
            session = await self._session(form.text("key").strip())
        except QueryError as error:
            return self._page(request, target, str(error), error.http_status)
        return self.enter(session, target)

    def enter(self, session: ConsoleSession, target: str) -> web.Response:
        """Answer with the cookie of a session, and lead to a page of the console."""
        response = web.Response(status=303, headers=HEADERS | {"Location": target})
        self._set_cookie(response, self._codec.encode(session), int(SESSION_S))
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
            return self._page(request, CONSOLE, str(error), error.http_status)
        response = web.Response(status=303, headers=HEADERS | {"Location": SIGN_IN})
        self._set_cookie(response, "", 0)
        return response

    def _set_cookie(self, response: web.Response, value: str, age_s: int) -> None:
        response.set_cookie(
            COOKIE, value, max_age=age_s, path=CONSOLE, httponly=True, samesite="Strict",
            secure=self._settings.secure_cookies,
        )  # fmt: skip

    def _page(self, _request: web.Request, target: str, problem: str, status: int = 200) -> web.Response:
        html = self._rendering.text(
            "sign_in.html", visit=None, menu=(), page=None, target=local_path(target), problem=problem,
            issuer=self._settings.oidc_issuer if self._issuer else "",
        )  # fmt: skip
        return web.Response(text=html, status=status, content_type="text/html", headers=HEADERS)


def new_session(key: str = "", principal: Principal | None = None, until: float | None = None) -> ConsoleSession:
    """Return a session that begins now; `until` is its latest end in seconds since the epoch."""
    end = time.time() + SESSION_S
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    return ConsoleSession(key=key, principal=principal, until=end if until is None else min(end, until), nonce=nonce)
