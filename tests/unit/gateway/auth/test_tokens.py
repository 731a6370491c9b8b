"""Tests of tokens: the principal of a valid token, and the refusal of all others."""

import json
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.tokens import KnownToken, TokenRules, UnknownSigner, is_token, read_keys, verify_token
from gateway.settings import GatewaySettings
from schemas.access import Quota, Role
from schemas.errors import Unauthenticated
from tests.issuer import AUDIENCE, NOW, SigningKey, claims_of, forged, key_set, signed_by_public_key

ISSUER = "https://login.example"
RULES = TokenRules(ISSUER, AUDIENCE, "tenant", "roles", "tasks", "", Quota(5))
RSA, EC, OTHER = SigningKey("r"), SigningKey("e", "ES256"), SigningKey("o")
KEYS = read_keys(json.dumps(key_set(RSA, EC)).encode())


def claims(**changed: Any) -> dict[str, Any]:
    return claims_of(ISSUER, **changed)


def verified(token: str, rules: TokenRules = RULES, now: float = NOW) -> KnownToken:
    assert is_token(token)
    return verify_token(token, KEYS, rules, now)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
def test_verify_token_returns_principal_of_subject(key: SigningKey) -> None:
    principal, expires = verified(key.sign(claims(tasks=["digits"])))
    assert principal.name == f"{ISSUER}#ada"
    assert (principal.tenant, principal.roles, principal.tasks) == ("acme", {Role.QUERY}, {"digits"})
    assert principal.quota == Quota(5)
    assert NOW + 300 <= expires <= NOW + 360


REFUSED = {
    "alg none": forged({"alg": "none", "kid": "r"}, claims()),
    "alg None": forged({"alg": "None", "kid": "r"}, claims()),
    "no alg": forged({"kid": "r"}, claims()),
    "no signature": RSA.sign(claims()).rpartition(".")[0] + ".",
    "HS256 by the public key": signed_by_public_key(RSA, claims()),
    "signed by another": OTHER.sign(claims(), kid="r"),
    "of the wrong kind of key": EC.sign(claims(), kid="r"),
    "another issuer": RSA.sign(claims(iss="https://other.example")),
    "an issuer that only begins so": RSA.sign(claims(iss=f"{ISSUER}.other.example")),
    "another audience": RSA.sign(claims(aud="somebody else")),
    "no audience": RSA.sign(claims(aud=None)),
    "no issuer": RSA.sign(claims(iss=None)),
    "no subject": RSA.sign(claims(sub=None)),
    "no end": RSA.sign(claims(exp=None)),
    "expired": RSA.sign(claims(exp=int(NOW) - 31)),
    "not yet": RSA.sign(claims(nbf=int(NOW) + 60)),
    "a subject of many lines": RSA.sign(claims(sub="ada\nroot")),
    "an empty subject": RSA.sign(claims(sub="")),
    "no tenant": RSA.sign(claims(tenant=None)),
    "a tenant that is no name": RSA.sign(claims(tenant="Acme Inc.")),
    "tenants": RSA.sign(claims(tenant=["acme", "other"])),
    "roles that are no words": RSA.sign(claims(roles=[1])),
    "roles in a table": RSA.sign(claims(roles={"admin": True})),
    "nonsense": "a.b.c",
    "no JSON": forged({"alg": "RS256", "kid": "r"}, {}, b"x"),
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED)
def test_verify_token_refuses_invalid_tokens(token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verified(token)
    assert not isinstance(refused.value, UnknownSigner)
    assert token not in str(refused.value)


@pytest.mark.parametrize("value", ["1900000000", True, None, [1]])
def test_verify_token_refuses_expiry_that_is_no_time(value: Any) -> None:
    payload = json.dumps(claims() | {"exp": value}).encode()
    token = jwt.api_jws.encode(payload, RSA.private, "RS256", headers={"kid": "r"})
    with pytest.raises(Unauthenticated):
        verified(token)


def test_verify_token_reports_unknown_signer() -> None:
    with pytest.raises(UnknownSigner):
        verified(OTHER.sign(claims()))


def test_verify_token_without_key_id_uses_the_only_key() -> None:
    token = RSA.sign(claims(), kid="r")
    unnamed = jwt_without_kid(RSA, claims())
    only = read_keys(json.dumps(key_set(RSA)).encode())
    assert verify_token(unnamed, only, RULES, NOW) == verify_token(token, only, RULES, NOW)
    with pytest.raises(UnknownSigner):
        verified(unnamed)


def jwt_without_kid(key: SigningKey, said: dict[str, Any]) -> str:
    return jwt.encode(said, key.private, key.algorithm)


@given(st.integers(-600, 600), st.integers(-600, 600), st.sampled_from([0, 5, 30]))
def test_verify_token_respects_validity_and_leeway(begins: int, ends: int, leeway_s: int) -> None:
    token = RSA.sign(claims(nbf=int(NOW) + begins, exp=int(NOW) + ends))
    try:
        known = verified(token, RULES._replace(leeway_s=leeway_s))
        counts = True
        assert known.expires == int(NOW) + ends + leeway_s
    except Unauthenticated:
        counts = False
    assert counts == (begins <= leeway_s and ends > -leeway_s)


def test_gateway_settings_default_to_short_leeway() -> None:
    """By default, a token is refused 5 s after its `exp`."""
    assert GatewaySettings().oidc_leeway_s == 5.0


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_verify_token_refuses_changed_byte(at: int, byte: int) -> None:
    token = RSA.sign(claims())
    changed = token[: at % len(token)] + chr(byte) + token[at % len(token) + 1 :]
    if not is_token(changed):
        return
    try:
        principal = verified(changed).principal
    except Unauthenticated:
        return
    assert principal == verified(token).principal  # two spellings of a signature may be the same bytes


@pytest.mark.parametrize(
    ("name", "value", "roles"),
    [
        ("roles", ["query", "admin"], {Role.QUERY, Role.ADMIN}),
        ("scope", "openid infaas:publish", {Role.PUBLISH}),
        ("realm_access.roles", ["infaas:query"], {Role.QUERY}),
        ("https://example.com/roles", ["infaas:query"], {Role.QUERY}),
        ("roles", ["owner"], set[Role]()),
        ("roles", None, set[Role]()),
    ],
)
def test_verify_token_reads_roles_from_configured_claim(name: str, value: Any, roles: set[Role]) -> None:
    prefix = "" if name == "roles" else "infaas:"
    said = {"realm_access": {"roles": value}} if name.startswith("realm") else {name: value}
    rules = RULES._replace(roles_claim=name, role_prefix=prefix)
    assert verified(RSA.sign(claims(**{"roles": None, **said})), rules).principal.roles == roles


def test_verify_token_accepts_administrator_without_tenant() -> None:
    assert verified(RSA.sign(claims(roles=["admin"], tenant=None))).principal.tenant is None


def test_read_keys_skips_keys_that_cannot_verify() -> None:
    good = RSA.jwk
    broken = {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}
    shared = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}
    encrypts = {**OTHER.jwk, "kid": "encrypts", "use": "enc"}
    confused = {**OTHER.jwk, "kid": "confused", "alg": "HS256"}
    document = {"keys": [broken, shared, encrypts, confused, "no key", good]}
    assert set(read_keys(json.dumps(document).encode())) == {"r"}


@given(st.binary(max_size=50) | st.from_type(int).map(lambda n: msgspec.json.encode({"keys": n})))
def test_read_keys_refuses_malformed_document(document: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON Web Key Set"):
        read_keys(document)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "a..c", "a.b.c " + "x", "ä.b.c", "a.b." + "c" * 20_000])
def test_is_token_refuses_malformed_text(text: str) -> None:
    assert not is_token(text)
