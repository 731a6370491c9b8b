"""Tests of sessions: cookies that are signed and end, and tokens of forms."""

import pytest

from gateway.console.sessions import ConsoleSession, SessionCodec, local_path
from gateway.settings import GatewaySettings
from schemas.access import Principal, Role
from schemas.errors import Forbidden

SESSION = ConsoleSession(key="0123456789ab", until=100.0, nonce="n")


def test_cookie_is_read_by_every_gateway_of_system() -> None:
    cookie = SessionCodec(b"secret", lambda: 0.0).encode(SESSION)
    assert SessionCodec(b"secret", lambda: 99.0).decode(cookie) == SESSION
    assert SessionCodec(b"other", lambda: 99.0).decode(cookie) is None


def test_cookie_of_token_keeps_its_principal() -> None:
    codec = SessionCodec(b"secret", lambda: 0.0)
    principal = Principal("issuer#me", "acme", frozenset({Role.QUERY}), frozenset({"digits"}))
    session = ConsoleSession(principal=principal, until=1.0, nonce="n")
    assert codec.decode(codec.encode(session)) == session


def test_cookie_is_refused_once_it_has_ended_or_was_changed() -> None:
    cookie = SessionCodec(b"secret", lambda: 0.0).encode(SESSION)
    assert SessionCodec(b"secret", lambda: 100.0).decode(cookie) is None
    codec = SessionCodec(b"secret", lambda: 0.0)
    content, signature = cookie.split(".")
    for wrong in ("", ".", cookie[:-1], f"{content}x.{signature}", f"{content}.", "x" * 5000, "ä.ö"):
        assert codec.decode(wrong) is None


def test_token_of_form_belongs_to_one_session() -> None:
    codec = SessionCodec(b"secret", lambda: 0.0)
    assert codec.token("a") != codec.token("b")
    assert codec.unseal(codec.seal(b"state")) == b"state"
    assert codec.unseal(codec.encode(SESSION)) is None  # a cookie of one kind is not one of another


def test_local_path_leads_nowhere_else() -> None:
    assert local_path("/console/scale?decisions=2") == "/console/scale?decisions=2"
    for target in ("", "https://example.com", "//example.com", "/consoles", "/console/\\example.com", "/console/\n"):
        assert local_path(target) == "/console"


@pytest.mark.parametrize(("url", "secure"), [("", False), ("http://a", False), ("HTTPS://infaas.example.com", True)])
def test_cookies_are_secure_if_browsers_use_https(url: str, secure: bool) -> None:
    assert GatewaySettings(console_url=url).secure_cookies is secure


def test_cookie_that_browsers_would_drop_is_refused_in_words() -> None:
    tasks = frozenset(f"task-with-a-long-name-{number}" for number in range(200))
    session = ConsoleSession(principal=Principal("i", "acme", frozenset({Role.QUERY}), tasks), until=1.0, nonce="n")
    with pytest.raises(Forbidden, match="too long"):
        SessionCodec(b"secret", lambda: 0.0).encode(session)
