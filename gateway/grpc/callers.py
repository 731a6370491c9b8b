"""Who calls, and what there is for them: found out once for each call, and for each request of a stream.

Everybody says who they are first, as over HTTP, even for a method that there is not, but for probes (`ServerLive`,
`ServerReady`, health) and reflection, which tells of the protocol and nothing of what is served here. That is before a
message is received: no bytes of strangers are held or awaited.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

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


_NAMES: Final = ("peer_uri", "peer_dns", "x509_common_name")
"""Names in a certificate, as gRPC's core calls them."""


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
    """Names in the certificate that was shown for the connection."""
    shown = call.auth_context()
    uris, dns, common = ([name.decode("utf-8", "replace") for name in shown.get(field, ())] for field in _NAMES)
    return names_that_count(uris, dns, common)


def metadata_of(fields: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The metadata of a call, but for what is binary; the last of a repeated name wins."""
    return {name: text for name, text in fields or () if isinstance(text, str)}
