"""Authentication of callers: for each call, and for each request of a stream.

As over HTTP, every caller is authenticated first, even for an unknown method. Exempt are probes (`ServerLive`,
`ServerReady`, health) and reflection, which describes the protocol but no models. Authentication comes before the
message is received, so no bytes of unauthenticated clients are buffered or awaited.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509

from gateway.authentication import AUTHORIZATION, Authenticator
from gateway.grpc.methods import Call
from gateway.model_directory import ModelDirectory, ServedModels
from gateway.refusals import require_role
from gateway.tenants import tenant_asking
from process.tls import names_that_count
from schemas.principal import Principal, Role

_QUERY: Final = ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex")
_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys((*_QUERY, "ModelInfer", "ModelStreamInfer"), Role.QUERY),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload"), Role.PUBLISH),
}
_CERTIFICATE: Final = "x509_pem_cert"
"""Property of a call that holds the client certificate."""
_MOST_CERTIFICATES: Final = 1024
"""Maximum number of certificates whose names are cached."""


class Caller(NamedTuple):
    """Authenticated caller with the metadata of the call."""

    principal: Principal
    metadata: dict[str, str]
    models: ServedModels
    """Models that the caller may use."""


class Callers:
    """Authenticator of calls."""

    def __init__(self, authenticator: Authenticator, models: ModelDirectory) -> None:
        self._authenticator = authenticator
        self._models = models

    async def of(self, call: Call, method: str) -> Caller:
        """Return the caller of a method, which may be unknown.

        Raises:
            Unauthenticated: the caller is unknown.
            Forbidden: the caller does not have the role for the method.
        """
        metadata = metadata_of(call.invocation_metadata())
        principal = await self._authenticator.resolve(metadata, () if AUTHORIZATION in metadata else certified(call))
        if method in _ROLES:
            require_role(principal, _ROLES[method])
        models = self._models.seen_by(tenant_asking(principal, metadata)).of_tasks(principal.tasks)
        return Caller(principal, metadata, models)


def certified(call: Call) -> tuple[str, ...]:
    """Return the names in the client certificate of the connection.

    They are read from the certificate itself. The names that gRPC reports end at the first NUL, so a certificate for a
    name that begins like another's, followed by NUL, would pass for that name.
    """
    shown = next(iter(call.auth_context().get(_CERTIFICATE, ())), None)
    return () if shown is None else _names_in(shown)


@lru_cache(_MOST_CERTIFICATES)
def _names_in(pem: bytes) -> tuple[str, ...]:
    uris, dns = list[str](), list[str]()
    try:
        shown = x509.load_pem_x509_certificate(pem)
        for part in shown.extensions:
            if isinstance(part.value, x509.SubjectAlternativeName):
                uris = part.value.get_values_for_type(x509.UniformResourceIdentifier)
                dns = part.value.get_values_for_type(x509.DNSName)
        common = [str(one.value) for one in shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except (ValueError, x509.UnsupportedGeneralNameType):  # no name that identifies a caller
        return ()
    return names_that_count(uris, dns, common)


def metadata_of(fields: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the metadata of a call without binary fields; the last of a repeated name counts."""
    return {name: text for name, text in fields or () if isinstance(text, str)}


def host_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as `ipv4:10.0.0.1:4242`."""
    return peer.rpartition(":")[0] or peer
