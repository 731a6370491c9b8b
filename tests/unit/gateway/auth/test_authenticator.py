"""Tests of `Authenticator`: keys and certificates; refusals show no secret."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from multidict import CIMultiDict

from gateway.auth.authenticator import Authenticator, open_authenticator
from gateway.settings import GatewaySettings
from process.security.api_keys import ApiKey, make_key
from schemas.access import ANYONE, Quota, Role
from schemas.errors import OperatorError, Unauthenticated
from schemas.rows.tenants import ApiKeyRow

NOW = 1_800_000_000.0
KEY = make_key(bytes(range(38)))
OTHER = make_key(bytes(38))


def row(key: ApiKey = KEY, expires_at: float | None = None, revoked_at: float | None = None) -> ApiKeyRow:
    expires, revoked = (None if at is None else datetime.fromtimestamp(at, UTC) for at in (expires_at, revoked_at))
    return ApiKeyRow(
        id=key.id,
        secret_hash=key.hash(),
        tenant="acme",
        roles=[Role.QUERY],
        tasks=["digits"],
        per_second=2.0,
        expires_at=expires,
        revoked_at=revoked,
    )


def bearer(text: object) -> Mapping[str, str]:
    return CIMultiDict({"Authorization": f"Bearer {text}"})


def knowing(*rows: ApiKeyRow, now: float = NOW) -> Authenticator:
    return Authenticator(lambda: {one.id: one for one in rows}, now=lambda: now)


def test_disabled_authenticator_returns_anyone() -> None:
    assert Authenticator(None).principal({}) is ANYONE


@pytest.mark.parametrize("text", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_authenticator_returns_principal_of_key(text: str) -> None:
    principal = knowing(row()).principal({"authorization": text})
    assert (principal.name, principal.tenant, principal.roles) == (KEY.id, "acme", {Role.QUERY})
    assert (principal.tasks, principal.quota) == ({"digits"}, Quota(2.0, None))


REFUSED: dict[str, tuple[Mapping[str, str], str]] = {
    "nothing": ({}, "authentication is required"),
    "another scheme": ({"authorization": f"Basic {KEY}"}, "authentication is required"),
    "only the key": ({"authorization": str(KEY)}, "authentication is required"),
    "no key": (bearer("secret"), "this is not an API key"),
    "a token, where there is no issuer": (bearer("a.b.c"), "this is not an API key"),
    "half a key": (bearer(str(KEY)[:-1]), "this is not an API key"),
    "another key": (bearer(OTHER), "this key is not known"),
    "another secret": (bearer(ApiKey(KEY.id, OTHER.secret)), "this key is not known"),
    "bytes that are no text": (bearer("infaas_\udcff"), "this is not an API key"),
}


@pytest.mark.parametrize(("headers", "words"), REFUSED.values(), ids=REFUSED)
def test_authenticator_refuses_invalid_credentials(headers: Mapping[str, str], words: str) -> None:
    with pytest.raises(Unauthenticated, match=words) as refused:
        knowing(row()).principal(headers)
    assert KEY.secret not in str(refused.value)
    assert OTHER.secret not in str(refused.value)


def test_key_is_valid_until_it_expires() -> None:
    assert knowing(row(expires_at=NOW + 1)).principal(bearer(KEY)).name == KEY.id
    with pytest.raises(Unauthenticated, match="has expired"):
        knowing(row(expires_at=NOW)).principal(bearer(KEY))


def test_key_revocation_is_shown_only_with_the_secret() -> None:
    with pytest.raises(Unauthenticated, match="was revoked"):
        knowing(row(revoked_at=NOW)).principal(bearer(KEY))
    with pytest.raises(Unauthenticated, match="not known"):
        knowing(row(revoked_at=NOW)).principal(bearer(ApiKey(KEY.id, OTHER.secret)))


def test_authenticator_uses_changed_row_at_once() -> None:
    rows = {KEY.id: row()}
    authenticator = Authenticator(lambda: rows, now=lambda: NOW)
    assert authenticator.principal(bearer(KEY)).name == KEY.id
    rows[KEY.id] = row(revoked_at=NOW)
    with pytest.raises(Unauthenticated):
        authenticator.principal(bearer(KEY))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"oidc_issuer": "https://login.example"}, "--auth is not on"),
        ({"auth": True, "oidc_issuer": "https://login.example"}, "--oidc-audience"),
        ({"auth": True, "oidc_issuer": "http://login.example", "oidc_audience": "a"}, "must be https"),
        (
            {"auth": True, "oidc_issuer": "https://x", "oidc_audience": "a", "oidc_jwks_url": "ftp://x"},
            "--oidc-jwks-url",
        ),
    ],
)
async def test_open_authenticator_refuses_unsafe_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        async with open_authenticator(GatewaySettings.model_validate(settings), "postgresql://nowhere"):
            pass


BATCH = "batch.example"


def certified(expires_at: float | None = None, revoked_at: float | None = None, key: ApiKey = KEY) -> ApiKeyRow:
    return replace(row(key, expires_at, revoked_at), secret_hash=None, certificate=BATCH)


def test_authenticator_returns_principal_of_certificate() -> None:
    principal = knowing(certified()).principal({}, ("other.example", BATCH))
    assert (principal.name, principal.tenant, principal.roles) == (KEY.id, "acme", {Role.QUERY})
    assert (principal.tasks, principal.quota) == ({"digits"}, Quota(2.0, None))
    with pytest.raises(Unauthenticated, match=r"the certificate of 'other.example' belongs to no key"):
        knowing(certified()).principal({}, ("other.example",))
    assert Authenticator(None).principal({}, (BATCH,)) is ANYONE


def test_certificate_is_valid_until_it_ends_or_is_added_again() -> None:
    with pytest.raises(Unauthenticated, match="this certificate has expired"):
        knowing(certified(expires_at=NOW)).principal({}, (BATCH,))
    with pytest.raises(Unauthenticated, match="this certificate was revoked"):
        knowing(certified(revoked_at=NOW)).principal({}, (BATCH,))
    for rows in ((certified(key=OTHER), certified(revoked_at=NOW)), (certified(revoked_at=NOW), certified(key=OTHER))):
        assert knowing(*rows).principal({}, (BATCH,)).name == OTHER.id


def test_key_takes_precedence_over_certificate() -> None:
    keys = knowing(certified(key=OTHER), row())
    assert keys.principal(bearer(KEY), (BATCH,)).name == KEY.id
    with pytest.raises(Unauthenticated, match="this is not an API key"):
        keys.principal(bearer("wrong"), (BATCH,))
    with pytest.raises(Unauthenticated, match="this key is not known"):
        keys.principal(bearer(OTHER))  # the id of a certificate, which has no secret
