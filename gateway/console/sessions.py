"""Sessions of the console: cookies that name a verified caller, and the tokens that its forms carry.

A cookie holds no credential. It states the id of an API key, or the principal of an issuer's token, and the time until
which this counts; a signature with a key derived from the system's secret protects it, so every gateway of the system
accepts it, also after a restart. The row of the key is looked up at every request: a revoked or expired key ends its
sessions.

A form carries a token derived from its session. Pages of other sites can neither read nor guess it.
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec
from aiohttp import web

from gateway.http.authorization import CONSOLE
from schemas.access import Principal
from schemas.errors import Forbidden

SESSION_S: Final = 12 * 3600.0
"""Maximum age of a session in seconds."""
COOKIE: Final = "infaas-console"
_NONCE_BYTES: Final = 16
_PURPOSE: Final = b"infaas console sessions"
_MOST_CHARACTERS: Final = 4000


class ConsoleSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Caller that has signed in."""

    key: str = ""
    """Id of the API key; empty: the caller signed in at the issuer."""
    principal: Principal | None = None
    """Principal of the issuer's token; None for an API key, whose row has it."""
    until: float
    """End in seconds since the epoch."""
    nonce: str
    """Random text, which makes the tokens of its forms its own."""


def new_session(key: str = "", principal: Principal | None = None, until: float | None = None) -> ConsoleSession:
    """Return a session that begins now; `until` is its latest end in seconds since the epoch."""
    end = time.time() + SESSION_S
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    return ConsoleSession(key=key, principal=principal, until=end if until is None else min(end, until), nonce=nonce)


class SessionCodec:
    """Writes and reads the cookies of sessions.

    Args:
        secret: secret of the system.
        now: returns seconds since the epoch.
    """

    def __init__(self, secret: bytes, now: Callable[[], float]) -> None:
        self._key = hmac.digest(secret, _PURPOSE, sha256)
        self._now = now

    def encode(self, session: ConsoleSession) -> str:
        """Return the cookie of a session.

        Raises:
            Forbidden: the cookie would be too long, so browsers would not keep it.
        """
        content = urlsafe_b64encode(msgspec.json.encode(session)).decode()
        cookie = f"{content}.{self._sign('session', content)}"
        if len(cookie) > _MOST_CHARACTERS:
            raise Forbidden(
                "your rights are too long for a session of the console: ask an administrator to name fewer tasks and "
                "roles in your token"
            )
        return cookie

    def decode(self, cookie: str) -> ConsoleSession | None:
        """Return the session of a cookie; None if it is forged, damaged or has ended."""
        content, _, signature = cookie.partition(".")
        if len(cookie) > _MOST_CHARACTERS or not self._signed("session", content, signature):
            return None
        session = msgspec.json.decode(urlsafe_b64decode(content), type=ConsoleSession)
        return session if session.until > self._now() else None

    def token(self, subject: str) -> str:
        """Return the token of the forms of a session, named by its nonce, or of a caller without a session."""
        return self._sign("form", subject)

    def seal(self, content: bytes) -> str:
        """Return a cookie with a content that only a gateway of this system can have written."""
        text = urlsafe_b64encode(content).decode()
        return f"{text}.{self._sign('sealed', text)}"

    def unseal(self, cookie: str) -> bytes | None:
        """Return the content of a sealed cookie; None if it is forged or damaged."""
        text, _, signature = cookie.partition(".")
        return urlsafe_b64decode(text) if self._signed("sealed", text, signature) else None

    def _sign(self, purpose: str, text: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, f"{purpose}:{text}".encode(), sha256)).decode().rstrip("=")

    def _signed(self, purpose: str, text: str, signature: str) -> bool:
        return hmac.compare_digest(self._sign(purpose, text).encode(), signature.encode(errors="replace"))


def set_session_cookie(response: web.Response, value: str, *, secure: bool) -> None:
    """Add the cookie of a session to a response; an empty one deletes that of the browser."""
    age_s = int(SESSION_S) if value else 0
    response.set_cookie(COOKIE, value, max_age=age_s, path=CONSOLE, httponly=True, samesite="Strict", secure=secure)


def local_path(target: str) -> str:
    """Return a target within the console; any other one is replaced by the overview."""
    inside = target == CONSOLE or target.startswith((f"{CONSOLE}/", f"{CONSOLE}?"))
    return target if inside and target.isprintable() and "\\" not in target else CONSOLE
