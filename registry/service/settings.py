"""Settings of a registrar: `INFAAS_REGISTRAR_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from process.settings import ArtifactUserSettings

_DAY_S = 86_400.0


class RegistrarSettings(ArtifactUserSettings):
    """Settings read from `INFAAS_REGISTRAR_*`; common settings from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_REGISTRAR_", frozen=True, extra="ignore")

    at_once: int = Field(default=3, ge=1)
    """Most registrations that run concurrently. At most `at_once - 1`, but at least 1, belong to publishers of one
    tenant; the same limit holds for registrations that wait for a missing worker. A registration needs little CPU
    itself: workers do most of the work, or it runs one step at a time.
    """
    max_crashes: int = Field(default=3, ge=1)
    """Most attempts of a registration that end without an outcome, for example after a crash."""
    memory_bytes: int = Field(default=0, ge=0)
    """Memory limit in bytes of a registration's process, without its steps; 0: half of the free memory."""
    cpu_s: int = Field(default=1800, ge=1)
    """CPU limit in seconds of a registration's process, without its steps. Valid files need far less; some malicious
    files would otherwise take endless time to read.
    """
    silent_s: float = Field(default=15.0, gt=0)
    """Seconds without a renewal after which another registrar may claim a registration."""
    renew_s: float = Field(default=1.0, gt=0)
    """Most seconds between two renewals of a claim."""
    tidy_interval_s: float = Field(default=300.0, gt=0)
    """Seconds between two clean-ups of expired uploads, registrations and build files."""
    upload_retention_s: float = Field(default=_DAY_S, gt=0)
    """Seconds for which an upload is kept after its last use by a registration; also an upload that never completed."""
    retention_s: float = Field(default=30 * _DAY_S, gt=0)
    """Seconds for which the outcome of a registration is kept after its end."""
