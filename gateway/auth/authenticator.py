"""Authentication of callers, shared by all protocols and routes, and the tenant and role of a caller.

    Authorization: Bearer infaas_<id>_<secret>       API key: one lookup, one hash
    Authorization: Bearer <header.claims.signature>  token of the issuer: its signature, verified once
    client certificate without such a header         principal of its name: one lookup

A key takes precedence over a certificate: the certificate may belong to a proxy, which names the caller by a key.
Nothing here waits, except `resolve` for a token whose signing key is unknown. An error message reveals nothing about
secrets, and each failure takes the same time, so that timing reveals nothing either.
"""

import importlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Final, TypeVar

from gateway.auth.issuer_documents import check_issuer_url
from gateway.auth.issuer_keys import IssuerKeys
from gateway.auth.tokens import KnownToken, TokenRules, UnknownSigner, is_token, verify_token
from gateway.settings import GatewaySettings
from process.security.access import tenant_of
from process.security.api_keys import PREFIX, id_in, is_key, read_key
from schemas import headers as h
from schemas.access import ANYONE, EVERY_TENANT, Principal, Role, quota_of
from schemas.errors import Forbidden, InvalidRequest, OperatorError, Overloaded, RefusalReason, Unauthenticated
from schemas.rows.tenants import ApiKeyRow
from store.api_keys import KeyWatcher
from store.shared_connection import SharedConnection

R = TypeVar("R")

AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer"
_NO_HASH: Final = bytes(32)
_LONGEST_NAME: Final = 200
"""Maximum length of a certificate's name in an error message."""
_MOST_TOKENS: Final = 10_000
"""Maximum number of verified tokens in the cache."""


class Authenticator:
    """Authenticator of callers.

    Args:
        keys: returns the API keys by id; None: authentication is off, and every caller is `ANYONE`.
        issuer: keys of the token issuer and rules for its tokens, if there is one.
        now: returns seconds since the epoch.
    """

    def __init__(
        self,
        keys: Callable[[], Mapping[str, ApiKeyRow]] | None,
        issuer: tuple[IssuerKeys, TokenRules] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._now = now
        self._principals: dict[str, tuple[ApiKeyRow, Principal]] = {}
        self._certificates: dict[str, ApiKeyRow] = {}
        self._certificates_of: object = None
        """Mapping of keys that `_certificates` was made from."""
        self._tokens: OrderedDict[bytes, KnownToken] = OrderedDict()
        self._tokens_of: object = None
        """Signing keys that verified `_tokens`."""

    def principal(self, headers: Mapping[str, str], certified: Sequence[str] = ()) -> Principal:
        """Return the principal of a request.

        Args:
            headers: headers of the request, names in lower case or case-insensitive.
            certified: names in the client certificate of the connection, by precedence.

        Raises:
            Unauthenticated: the caller is unknown; its subclass `UnknownSigner`: `resolve` may succeed.
        """
        if self._keys is None:
            return ANYONE
        shown = headers.get(AUTHORIZATION)
        if shown is None and certified:
            return self._of_certificate(certified, self._keys())
        scheme, _, credential = (shown or "").partition(" ")
        if scheme.lower() != _BEARER:
            raise Unauthenticated
        credential = credential.strip()
        if self._issuer is not None and not credential.startswith(PREFIX) and is_token(credential):
            return self._of_token(credential, *self._issuer)
        return self._of_key(credential, self._keys())

    async def resolve(self, headers: Mapping[str, str], certified: Sequence[str] = ()) -> Principal:
        """Return the principal of a request as `principal` does; fetch an unknown signing key, at most once in a while.

        Raises:
            Unauthenticated: the caller is unknown.
            Overloaded: the keys of the issuer could not be fetched yet.
        """
        return await self._with_keys(lambda: self.principal(headers, certified))

    async def resolve_id_token(self, token: str, client_id: str, nonce: str) -> KnownToken:
        """Verify an ID token of the issuer for a client, and return its principal; fetches keys as `resolve` does.

        Raises:
            Unauthenticated: the token is not acceptable, or belongs to another sign-in.
            Overloaded: the keys of the issuer could not be fetched yet.
        """
        if self._issuer is None:
            raise Unauthenticated("this gateway knows no issuer of tokens")
        issuer, rules = self._issuer
        rules = rules._replace(audience=client_id)
        return await self._with_keys(lambda: verify_token(token, issuer.current or {}, rules, self._now(), nonce))

    async def _with_keys(self, verify: Callable[[], R]) -> R:
        """Return what `verify` returns; if it misses a signing key, fetch the issuer's keys and verify again."""
        try:
            return verify()
        except UnknownSigner:
            if self._issuer is None:
                raise
            issuer, rules = self._issuer
            await issuer.refresh()
            if issuer.current is None:
                message = f"the keys of {rules.issuer} cannot be read at the moment, so its tokens cannot be verified"
                raise Overloaded(f"{message}; try again later", reason=RefusalReason.ISSUER_UNAVAILABLE) from None
            return verify()

    @property
    def is_on(self) -> bool:
        """True if callers must authenticate."""
        return self._keys is not None

    def principal_of_key(self, key_id: str) -> Principal:
        """Return the principal of a key that was presented earlier.

        Raises:
            Unauthenticated: the key has been revoked, or has expired since.
        """
        row = None if self._keys is None else self._keys().get(key_id)
        if row is None:
            raise Unauthenticated("this key is not known")
        return self._valid(row, "this key")

    def _of_key(self, credential: str, keys: Mapping[str, ApiKeyRow]) -> Principal:
        row = keys.get(id_in(credential))
        matches = is_key(credential, "" if row is None else row.id, (row and row.secret_hash) or _NO_HASH)
        if row is None or not matches:
            if read_key(credential) is None:
                raise Unauthenticated("this is not an API key: keys begin with `infaas_`, as shown at their creation")
            raise Unauthenticated("this key is not known")
        return self._valid(row, "this key")

    def _of_certificate(self, names: Sequence[str], keys: Mapping[str, ApiKeyRow]) -> Principal:
        if self._certificates_of is not keys:
            self._certificates, self._certificates_of = _by_certificate(keys.values()), keys
        row = next((row for name in names if (row := self._certificates.get(name)) is not None), None)
        if row is None:
            raise Unauthenticated(
                f"the certificate of {names[0][:_LONGEST_NAME]!r} belongs to no key here: send a key, or ask an "
                "administrator for `infaas keys create --certificate NAME`"
            )
        return self._valid(row, "this certificate")

    def _valid(self, row: ApiKeyRow, what: str) -> Principal:
        """Return the principal of a key or a certificate if it is neither revoked nor expired."""
        if row.revoked_at is not None:
            raise Unauthenticated(f"{what} was revoked: ask an administrator for another")
        if row.expires_at is not None and row.expires_at.timestamp() <= self._now():
            raise Unauthenticated(f"{what} has expired: ask an administrator for another")
        known = self._principals.get(row.id)
        if known is None or known[0] is not row:
            known = self._principals[row.id] = row, row.principal()
        return known[1]

    def _of_token(self, token: str, issuer: IssuerKeys, rules: TokenRules) -> Principal:
        keys, now = issuer.current, self._now()
        if self._tokens_of is not keys:  # a signing key may have been withdrawn
            self._tokens.clear()
            self._tokens_of = keys
        digest = sha256(token.encode()).digest()
        known = self._tokens.get(digest)
        if known is None or known.expires <= now:
            known = self._tokens[digest] = verify_token(token, keys or {}, rules, now)
            if len(self._tokens) > _MOST_TOKENS:
                self._tokens.popitem(last=False)
        return known.principal


def _by_certificate(rows: Iterable[ApiKeyRow]) -> dict[str, ApiKeyRow]:
    """Return the rows of certificates by name; a valid row takes precedence over revoked ones of the same name."""
    certified = [(row.certificate, row) for row in rows if row.certificate is not None]
    return dict(sorted(certified, key=lambda one: one[1].revoked_at is None))


def require_role(principal: Principal, role: Role) -> None:
    """Check that a principal has a role.

    Raises:
        Forbidden: the principal does not have the role.
    """
    if not principal.has(role):
        own = ", ".join(sorted(principal.roles)) or "none"
        raise Forbidden(f"this requires the role {role}, and yours is {own}: ask an administrator for a key with it")


@asynccontextmanager
async def open_authenticator(
    settings: GatewaySettings, source: str | SharedConnection
) -> AsyncGenerator[Authenticator]:
    """Open an authenticator according to the settings; it follows changes of keys while the context is open.

    Raises:
        OperatorError: the settings contradict one another.
        StoreUnavailable: Postgres cannot be reached.
    """
    if not settings.auth:
        if settings.oidc_issuer:
            raise OperatorError("--oidc-issuer requires --auth, but --auth is not on: set both")
        yield Authenticator(None)
        return
    rules = token_rules(settings) if settings.oidc_issuer else None
    async with AsyncExitStack() as stack:
        keys = await stack.enter_async_context(KeyWatcher(source))
        issuer = None
        if rules is not None:
            importlib.import_module("jwt")  # before the first token, which would otherwise wait for the import
            signers = IssuerKeys(rules.issuer, settings.oidc_jwks_url, settings.oidc_pause_s)
            issuer = await stack.enter_async_context(signers), rules
        yield Authenticator(lambda: keys.current, issuer)


def token_rules(settings: GatewaySettings) -> TokenRules:
    """Return the rules for tokens of the issuer.

    Raises:
        OperatorError: a setting is missing or invalid.
    """
    if not settings.oidc_audience:
        raise OperatorError("--oidc-issuer needs --oidc-audience, the audience of its tokens for this system")
    for flag, url in (("--oidc-issuer", settings.oidc_issuer), ("--oidc-jwks-url", settings.oidc_jwks_url)):
        try:
            if url:
                check_issuer_url(url)
        except ValueError as error:
            raise OperatorError(f"{flag}: {error}") from None
    return TokenRules(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        tenant_claim=settings.oidc_tenant_claim,
        roles_claim=settings.oidc_roles_claim,
        tasks_claim=settings.oidc_tasks_claim,
        role_prefix=settings.oidc_role_prefix,
        quota=quota_of(settings.oidc_per_second, settings.oidc_concurrent),
        leeway_s=settings.oidc_leeway_s,
    )


def tenant_of_request(principal: Principal, headers: Mapping[str, str]) -> str | None:
    """Return the tenant of the caller; without authentication, the tenant that the request names.

    Names of headers are in lower case or case-insensitive.
    """
    if principal is not ANYONE:
        return tenant_of(principal)
    said = headers.get(h.TENANT) or None
    return None if said == EVERY_TENANT else said


def check_named_tenant(said: str | None) -> None:
    """Check the tenant named in an unauthenticated request: it must not claim an administrator's access.

    Raises:
        InvalidRequest: the name is reserved for administrators.
    """
    if said == EVERY_TENANT:
        raise InvalidRequest(f"header {h.TENANT} is not a name: {said!r}")
