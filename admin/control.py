"""Who asks for something to be done, and what it is done with: alike from the command line and from a gateway."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from broker.settings import KafkaSettings
from registry.artifact_settings import open_artifacts, open_exchange
from registry.artifacts import ArtifactStore
from schemas.principal import ANYONE, Principal
from schemas.rows.audit import AuditAct, AuditVerb
from store.pool import Pool


class Control(NamedTuple):
    """What an act needs."""

    pool: Pool
    find_kafka: Callable[[], KafkaSettings]
    """Says how to reach Kafka; raises `OperatorError` where nobody knows, which only matters to who has to."""
    artifacts: str
    """Where files of models are: a folder, or a bucket's URL; empty: in the home."""
    home: Path
    principal: Principal
    """Who asks; at the command line `ANYONE`, who may do everything."""
    actor: str
    """Who asks, for the record: `user@host`, or as `actor_of` says."""
    origin: str
    """Where from: `command line`, or the door and the address."""

    def act(self, verb: AuditVerb, subject: str = "", **detail: Any) -> AuditAct:
        """Describe, for the record, what they do."""
        return AuditAct(actor=self.actor, origin=self.origin, verb=verb, subject=subject, detail=detail)

    def artifact_store(self) -> ArtifactStore:
        """Where files of models are."""
        return open_artifacts(self.artifacts, self.home)

    def exchange_store(self) -> ArtifactStore:
        """Where, beside that, files are which only builds need."""
        return open_exchange(self.artifacts, self.home)


def actor_of(principal: Principal) -> str:
    """Who asks a gateway, for the record: `key:<id>`, the issuer and the subject of a token, or `anyone`."""
    if principal == ANYONE or not principal.name.isalnum():
        return principal.name
    return f"key:{principal.name}"
