"""Sign-in at the issuer of tokens: OpenID Connect's authorization code flow with PKCE.

    GET /console/oidc/start     state, nonce and verifier go into a sealed cookie, the browser to the issuer
    GET /console/oidc/callback  code and verifier are exchanged for an ID token, which becomes a session

A public client needs no secret, since PKCE replaces it; a confidential one proves its own, too. The ID token is
verified as tokens of the API are, for the console's client id as the audience; its claims give tenant, roles and tasks.
The answer to the callback is a page that leads on: the session's cookie is `SameSite=Strict`, so a browser that comes
from the issuer would not send it after a redirect.
"""

import asyncio
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from aiohttp import web

from gateway.auth.authenticator import Authenticator
from gateway.auth.issuer_documents import discover, send_form
from gateway.console.rendering import HEADERS, Rendering, html_response
from gateway.console.sessions import SessionCodec, local_path, new_session, set_session_cookie
from gateway.http.authorization import CONSOLE
from gateway.settings import GatewaySettings
from schemas.errors import OperatorError, Overloaded, QueryError, RefusalReason, Unauthenticated

R = TypeVar("R")

_START: Final = f"{CONSOLE}/oidc/start"
_CALLBACK: Final = f"{CONSOLE}/oidc/callback"
_COOKIE: Final = "infaas-console-oidc"
_AUTHORIZATION: Final = "authorization_endpoint"
_TOKEN: Final = "token_endpoint"
_TIMEOUT_S: Final = 10.0
"""Seconds for an answer of the issuer, with the wait for a place."""
_KNOWN_S: Final = 600.0
"""Seconds for which the issuer's endpoints are remembered."""
_REQUESTS: Final = 8
"""Maximum number of concurrent requests to the issuer; anybody can begin a sign-in."""
_ATTEMPT_S: Final = 600
"""Seconds within which a caller must return from the issuer."""


class OidcAttempt(msgspec.Struct, frozen=True):
    """Sign-in that has begun."""

    state: str
    nonce: str
    verifier: str
    target: str
    """Page to which it leads."""
    until: float
    """End in seconds since the epoch."""


class IssuerSignIn:
    """Handlers of the sign-in at the issuer.

    Args:
        settings: settings of the gateway, with an issuer and a client id.
        authenticator: verifies ID tokens.
        codec: seals cookies.
        rendering: renderer of pages.
    """

    def __init__(
        self, settings: GatewaySettings, authenticator: Authenticator, codec: SessionCodec, rendering: Rendering
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._codec = codec
        self._rendering = rendering
        self._auth = _client_auth(settings)
        self._places = asyncio.Semaphore(_REQUESTS)
        self._endpoints = dict[str, str]()
        self._read_s = 0.0
        """Time at which the endpoints were read, in seconds since the epoch."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.get(_START, self._start), web.get(_CALLBACK, self._return)]

    async def _start(self, request: web.Request) -> web.Response:
        try:
            endpoint = (await self._discover())[_AUTHORIZATION]
        except QueryError as error:
            return self._problem(error)
        target = local_path(request.query.get("next", CONSOLE))
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = OidcAttempt(state, nonce, verifier, target, time.time() + _ATTEMPT_S)
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._redirect_uri(request),
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in endpoint else "?"
        response = web.Response(status=303, headers=HEADERS | {"Location": f"{endpoint}{joint}{urlencode(asked)}"})
        # The browser returns from another site, so this cookie must be sent with a link from there.
        response.set_cookie(
            _COOKIE, self._codec.seal(msgspec.json.encode(attempt)), max_age=_ATTEMPT_S, path=f"{CONSOLE}/oidc",
            httponly=True, samesite="Lax", secure=self._settings.secure_cookies,
        )  # fmt: skip
        return response

    async def _return(self, request: web.Request) -> web.Response:
        try:
            attempt = self._attempt(request)
            token = await self._exchange(attempt, request)
            known = await self._authenticator.resolve_id_token(token, self._settings.oidc_client_id, attempt.nonce)
            cookie = self._codec.encode(new_session(principal=known.principal, until=known.expires))
        except QueryError as error:
            return self._problem(error)
        response = html_response(self._rendering.text("oidc_done.html", target=attempt.target))
        set_session_cookie(response, cookie, secure=self._settings.secure_cookies)
        response.del_cookie(_COOKIE, path=f"{CONSOLE}/oidc")
        return response

    def _attempt(self, request: web.Request) -> OidcAttempt:
        """Return the sign-in that the issuer's answer belongs to.

        Raises:
            Unauthenticated: there is none, it has ended, or the issuer refused it.
        """
        content = self._codec.unseal(request.cookies.get(_COOKIE, ""))
        attempt = None if content is None else msgspec.json.decode(content, type=OidcAttempt)
        said = request.query.get("state", "").encode(errors="replace")
        if attempt is None or attempt.until < time.time() or not hmac.compare_digest(attempt.state.encode(), said):
            raise Unauthenticated("this sign-in did not begin in this browser, or it took too long: try again")
        if "code" not in request.query:
            reason = request.query.get("error_description") or request.query.get("error") or "no code"
            raise Unauthenticated(f"{self._settings.oidc_issuer} refused the sign-in: {reason[:200]}")
        return attempt

    async def _exchange(self, attempt: OidcAttempt, request: web.Request) -> str:
        """Exchange the code for an ID token."""
        fields = {
            "grant_type": "authorization_code",
            "code": request.query["code"],
            "redirect_uri": self._redirect_uri(request),
            "client_id": self._settings.oidc_client_id,
            "code_verifier": attempt.verifier,
        }
        url = (await self._discover())[_TOKEN]
        answer = await self._asked(lambda http: send_form(http, url, fields, self._auth))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated(
                f"{self._settings.oidc_issuer} gave no ID token: {str(answer.get('error', ''))[:200]}"
            )
        return token

    async def _discover(self) -> dict[str, str]:
        """Return the issuer's endpoints."""
        if not self._endpoints or time.time() - self._read_s >= _KNOWN_S:
            issuer = self._settings.oidc_issuer
            self._endpoints = await self._asked(lambda http: discover(http, issuer, _AUTHORIZATION, _TOKEN))
            self._read_s = time.time()
        return self._endpoints

    async def _asked(self, ask: Callable[[aiohttp.ClientSession], Awaitable[R]]) -> R:
        """Return what the issuer answers, within a time limit.

        Raises:
            Overloaded: the issuer does not answer, or answers something else.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._places, aiohttp.ClientSession() as http:
                return await ask(http)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            message = f"{self._settings.oidc_issuer} cannot be asked at the moment: {reason[:200]}"
            raise Overloaded(message, reason=RefusalReason.ISSUER_UNAVAILABLE) from None

    def _redirect_uri(self, request: web.Request) -> str:
        base = self._settings.console_url.rstrip("/") or f"{request.scheme}://{request.host}"
        return base + _CALLBACK

    def _problem(self, error: QueryError) -> web.Response:
        return self._rendering.sign_in(CONSOLE, str(error), self._settings.oidc_issuer, error.http_status)


def _client_auth(settings: GatewaySettings) -> dict[str, str]:
    """Return the header with the credentials of a confidential client (RFC 6749, section 2.3.1).

    Raises:
        OperatorError: the file of the secret cannot be read.
    """
    file = settings.oidc_client_secret_file
    if file is None:
        return {}
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"cannot read --oidc-client-secret-file: {error}") from None
    return {"Authorization": aiohttp.encode_basic_auth(quote(settings.oidc_client_id, safe=""), quote(secret, safe=""))}


def challenge_of(verifier: str) -> str:
    """Return the challenge of PKCE (RFC 7636, S256). Pure."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
