"""Who calls, and what there is for them: found out once for each call, and for each request of a stream.

Everybody says who they are first, as over HTTP, even for a method that there is not, but for probes (`ServerLive`,
`ServerReady`, health) and reflection, which tells of the protocol and nothing of what is served here. That is before a
message is received: no bytes of strangers are held or awaited.
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
"""A client's certificate, as gRPC's core calls it."""
_MOST_CERTIFICATES: Final = 1024
"""Certificates whose names are remembered."""


class Caller(NamedTuple):
    """Someone who calls, with the metadata of their call."""

    principal: Principal
    metadata: dict[str, str]
    models: ServedModels
    """Models that they may use."""


class Callers:
    """Finder of who calls."""

    def __init__(self, authenticator: Authenticator, models: ModelDirectory) -> None:
        self._authenticator = authenticator
        self._models = models

    async def of(self, call: Call, method: str) -> Caller:
        """Who calls a method, which may be none.

        Raises:
            Unauthenticated: nobody who is known.
            Forbidden: the method is not for them.
        """
        metadata = metadata_of(call.invocation_metadata())
        principal = await self._authenticator.resolve(metadata, () if AUTHORIZATION in metadata else certified(call))
        if method in _ROLES:
            require_role(principal, _ROLES[method])
        models = self._models.seen_by(tenant_asking(principal, metadata)).of_tasks(principal.tasks)
        return Caller(principal, metadata, models)


def certified(call: Call) -> tuple[str, ...]:
    """Names in the certificate that was shown for the connection.

    They are read from the certificate itself: what grpc tells of names ends at their first NUL, so whoever may have one
    certified that begins like another's would pass for that one.
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
    except (ValueError, x509.UnsupportedGeneralNameType):  # no names that anybody could be known by
        return ()
    return names_that_count(uris, dns, common)


def metadata_of(fields: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The metadata of a call, but for what is binary; the last of a repeated name wins."""
    return {name: text for name, text in fields or () if isinstance(text, str)}
