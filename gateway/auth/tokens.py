"""Verification of OpenID Connect tokens (JWT) to principals. Pure: the caller passes keys and time.

Only signatures by a private key are accepted. Unsigned tokens and shared secrets (HMAC) are refused, so nobody can sign
a token with the issuer's public key. Each key verifies only the algorithms of its own kind.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from schemas.access import Principal, Quota, Role
from schemas.errors import Unauthenticated
from schemas.names import is_name

_ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}
"""Allowed algorithms by the type of key, or by its curve."""
_MOST_BYTES: Final = 16 * 1024
_MOST_KEYS: Final = 100
_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,255}")
_FORM: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


class TokenRules(NamedTuple):
    """Rules for accepted tokens, and the names of their claims."""

    issuer: str
    audience: str
    tenant_claim: str
    roles_claim: str
    tasks_claim: str
    role_prefix: str
    """Prefix of our role names in a claim with other roles: `infaas:` in `infaas:query`."""
    quota: Quota | None
    """Quota of each subject."""
    leeway_s: float = 0.0
    """Tolerated clock difference between issuer and gateway, in seconds; it extends a token's validity at both ends."""


class TokenKey(NamedTuple):
    """A public key of the issuer."""

    key: Any
    algorithms: tuple[str, ...]


class KnownToken(NamedTuple):
    """The principal of a verified token, and the token's expiry."""

    principal: Principal
    expires: float
    """Seconds since the epoch, leeway included."""


class UnknownSigner(Unauthenticated):
    """The token names a key that is not known; it may be newer than the key set in memory."""


def is_token(text: str) -> bool:
    """Return true if a text has the form of a token."""
    return len(text) <= _MOST_BYTES and _FORM.fullmatch(text) is not None


def read_keys(document: bytes) -> dict[str, TokenKey]:
    """Read the signature keys of a JSON Web Key Set, by key id.

    Raises:
        ValueError: the document is not a key set.
    """
    try:
        found = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"it is not a JSON Web Key Set: {error}") from None
    if not isinstance(found, list):
        raise ValueError("it is not a JSON Web Key Set: it has no list `keys`")
    keys: dict[str, TokenKey] = {}
    for entry in found[:_MOST_KEYS]:
        key = _read_key(entry)
        if key is not None:
            keys[str(entry.get("kid", ""))] = key
    return keys


def _read_key(entry: Any) -> TokenKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    allowed = _ALGORITHMS.get(str(entry.get("crv", entry.get("kty"))), ())
    named = entry.get("alg")
    if not allowed or named not in (None, *allowed):
        return None
    import jwt  # not above: only a gateway with an issuer of tokens needs it, and reads the keys before it serves

    try:
        key = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None  # skip a broken key; the others stay valid
    return TokenKey(key, allowed if named is None else (named,))


def verify_token(
    token: str, keys: Mapping[str, TokenKey], rules: TokenRules, now: float, nonce: str | None = None
) -> KnownToken:
    """Verify a token and return its principal. `now` is in seconds since the epoch.

    `nonce` is the random text of a sign-in, which an ID token must contain.

    Raises:
        UnknownSigner: the token's key is not in `keys`.
        Unauthenticated: the token is not acceptable; the message says why.
    """
    import jwt  # not above: only a gateway with an issuer of tokens needs it, and imports it before it serves

    try:
        header = jwt.get_unverified_header(token)
        key = _key_of(header, keys)
        claims = jwt.decode(
            token,
            key.key,
            algorithms=list(key.algorithms),
            audience=rules.audience,
            issuer=rules.issuer,
            # The times are compared with `now` below, because the library would read its own clock.
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "require": ["exp", "iss", "aud", "sub"],
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unauthenticated(f"the token is not valid: {error}") from None
    if nonce is not None and claims.get("nonce") != nonce:
        raise Unauthenticated("the token is not valid: it belongs to another sign-in")
    expires = _time(claims, "exp")
    if expires + rules.leeway_s <= now:
        raise Unauthenticated("the token has expired: get a new one from its issuer")
    if "nbf" in claims and _time(claims, "nbf") - rules.leeway_s > now:
        raise Unauthenticated("the token is not valid yet")
    return KnownToken(_principal(claims, rules), expires + rules.leeway_s)


def _key_of(header: Mapping[str, Any], keys: Mapping[str, TokenKey]) -> TokenKey:
    kid = header.get("kid")
    key = next(iter(keys.values())) if kid is None and len(keys) == 1 else keys.get("" if kid is None else str(kid))
    if key is None:
        raise UnknownSigner("the token is not valid: it is signed by a key that its issuer does not publish")
    if header.get("alg") not in key.algorithms:
        raise Unauthenticated(f"the token is not valid: its key is for {' or '.join(key.algorithms)}")
    return key


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"the token is not valid: its claim {name} is not a time")
    return float(value)


def _principal(claims: Mapping[str, Any], rules: TokenRules) -> Principal:
    subject = claims["sub"]
    if not _SUBJECT.fullmatch(subject):
        raise Unauthenticated("the token is not valid: its subject is not a valid name")
    words = _words(_claim(claims, rules.roles_claim), rules.roles_claim) or frozenset()
    known = {f"{rules.role_prefix}{role.value}": role for role in Role}
    roles = frozenset(known[word] for word in words if word in known)
    tenant = _claim(claims, rules.tenant_claim)
    if tenant is None and Role.ADMIN not in roles:
        raise Unauthenticated(f"the token has no tenant: it needs a claim {rules.tenant_claim}")
    if tenant is not None and not (isinstance(tenant, str) and is_name(tenant)):
        raise Unauthenticated(
            f"the token's claim {rules.tenant_claim} is not a valid tenant name: use a-z, 0-9 and '-'"
        )
    tasks = _words(_claim(claims, rules.tasks_claim), rules.tasks_claim)
    return Principal(f"{rules.issuer}#{subject}", tenant, roles, tasks, rules.quota)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of a name; a dotted name such as `realm_access.roles` is also looked up as a nested claim."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _words(value: Any, name: str) -> frozenset[str] | None:
    """Return the words of a claim, which is a list or, like `scope`, a text; None if the claim is absent."""
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise Unauthenticated(f"the token's claim {name} is not a list of words")
