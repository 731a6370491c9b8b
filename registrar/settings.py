"""Settings of a registrar: `INFAAS_REGISTRAR_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from process.settings import ArtifactUserSettings

_DAY_S = 86_400.0


class RegistrarSettings(ArtifactUserSettings):
    """Settings read from `INFAAS_REGISTRAR_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_REGISTRAR_", frozen=True, extra="ignore")

    at_once: int = Field(default=3, ge=1)
    """Registrations that are done at once, of one tenant's publishers one fewer, and as many of those that wait where
    there is no worker. Most of their work is that of workers, or one step at a time."""
    max_crashes: int = Field(default=3, ge=1)
    """Times that the process of a registration may end without an outcome, as by a crash."""
    memory_bytes: int = Field(default=0, ge=0)
    """Most memory that the process of a registration may take beside its steps; 0: half of what is free."""
    cpu_s: int = Field(default=1800, ge=1)
    """Most seconds that the process of a registration may compute beside its steps: far more than any needs, and less
    than for ever, which it takes to read some files that are made for that."""
    silent_s: float = Field(default=15.0, gt=0)
    """Seconds after which a registration is another's whose registrar does not say that it is at it."""
    renew_s: float = Field(default=1.0, gt=0)
    """Seconds between two words that a registration is being done, at most."""
    tidy_interval_s: float = Field(default=300.0, gt=0)
    """Seconds between two looks for what was kept for long enough."""
    upload_retention_s: float = Field(default=_DAY_S, gt=0)
    """Seconds for which an upload is kept that no registration names, or waits for; also one that was only begun."""
    retention_s: float = Field(default=30 * _DAY_S, gt=0)
    """Seconds for which it is known of a registration, after its end, what became of it."""
