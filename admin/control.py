"""Caller and resources of an administrative request; the same for the command line and for a gateway."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from broker.settings import KafkaSettings
from registry.artifact_settings import open_artifacts, open_exchange
from registry.artifacts import ArtifactStore
from schemas.principal import ANYONE, Principal
from schemas.rows.audit import AuditAct, AuditVerb
from store.pool import Pool


class RequestContext(NamedTuple):
    """Caller and resources of one request."""

    pool: Pool
    find_kafka: Callable[[], KafkaSettings]
    """Returns the settings of Kafka; raises `OperatorError` if they are unknown, which fails only requests that need
    Kafka."""
    artifacts: str
    """Location of artifacts: a folder or a bucket's URL; empty for the default in the home folder."""
    home: Path
    principal: Principal
    """Caller; on the command line `ANYONE`, who may do everything."""
    actor: str
    """Caller for the audit log: `user@host`, or the result of `actor_of`."""
    origin: str
    """Origin for the audit log: `command line`, or the listener and the address."""

    def act(self, verb: AuditVerb, subject: str = "", **detail: Any) -> AuditAct:
        """Describe an act of the caller for the audit log."""
        return AuditAct(actor=self.actor, origin=self.origin, verb=verb, subject=subject, detail=detail)

    def artifact_store(self) -> ArtifactStore:
        """Return the store of model files."""
        return open_artifacts(self.artifacts, self.home)

    def exchange_store(self) -> ArtifactStore:
        """Return the store of files that only builds exchange."""
        return open_exchange(self.artifacts, self.home)


def actor_of(principal: Principal) -> str:
    """Return the caller of a gateway for the audit log: `key:<id>`, a token's issuer and subject, or `anyone`."""
    if principal == ANYONE or not principal.name.isalnum():
        return principal.name
    return f"key:{principal.name}"
