"""Rows of API keys, and of certificates that stand for somebody as keys do: no secrets, which nobody keeps."""

from datetime import datetime

import msgspec

from schemas.principal import Principal, Role, quota_of


class ApiKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an API key, or of a certificate."""

    id: str
    secret_hash: bytes | None = None
    """None: of a certificate."""
    certificate: str | None = None
    """A name in the certificate that its holder shows; None: of a key."""
    tenant: str | None
    """None: of no tenant, as only an administrator's may be."""
    roles: list[Role]
    tasks: list[str] | None = None
    """Tasks that it may ask; None: all."""
    per_second: float | None = None
    concurrent: int | None = None
    note: str = ""
    """What it is for, in the words of who made it."""
    created_by: str = ""
    created_at: datetime | None = None
    """None until it is kept."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def principal(self) -> Principal:
        """Whom the key stands for."""
        return Principal(
            name=self.id,
            tenant=self.tenant,
            roles=frozenset(self.roles),
            tasks=None if self.tasks is None else frozenset(self.tasks),
            quota=quota_of(self.per_second, self.concurrent),
        )
