"""Rows of tenants that send queries over Kafka to a topic of their own, and of API keys.

A client certificate can be used like a key. Secrets are not stored.
"""

from datetime import datetime

import msgspec

from schemas.access import Principal, Role, quota_of
from schemas.defaults import PARTITIONS


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Tenant that is identified by the topic of its queries."""

    name: str
    partitions: int = PARTITIONS
    """Partitions of each of its topics of queries, online and offline."""
    kafka_user: str = ""
    """Kafka user, by its login name, that may write there. Empty: ACLs are managed elsewhere."""
    key_number: int = 0
    """Number of the present signing key; keys with smaller numbers are revoked. 0: it has no key."""
    removing: bool = False
    """True while the tenant is being removed; queries in its topics are still answered."""
    created_at: datetime | None = None


class ApiKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """Stored API key, or accepted client certificate."""

    id: str
    secret_hash: bytes | None = None
    """Hash of the secret; None for a certificate."""
    certificate: str | None = None
    """Subject name of the certificate; None for a key."""
    tenant: str | None
    """Tenant of its queries; only an administrator's key may have None."""
    roles: list[Role]
    tasks: list[str] | None = None
    """Tasks that it may query; None: all."""
    per_second: float | None = None
    concurrent: int | None = None
    note: str = ""
    """Purpose, as stated by its creator."""
    created_by: str = ""
    created_at: datetime | None = None
    """None until the row is stored."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def principal(self) -> Principal:
        """Return the principal that the key identifies."""
        return Principal(
            name=self.id,
            tenant=self.tenant,
            roles=frozenset(self.roles),
            tasks=None if self.tasks is None else frozenset(self.tasks),
            quota=quota_of(self.per_second, self.concurrent),
        )
