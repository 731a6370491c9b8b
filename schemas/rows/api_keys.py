"""Rows of API keys and of client certificates that are used like keys. Secrets are not stored."""

from datetime import datetime

import msgspec

from schemas.principal import Principal, Role, quota_of


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
