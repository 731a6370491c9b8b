"""Settings common to all service processes; each service's own settings class extends this one."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Read from `INFAAS_*` environment variables; a subclass adds its own prefix."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default=Path(".infaas"), validation_alias="INFAAS_HOME")
    """Where artifacts, logs and embedded servers live."""
    log_level: str = Field(default="INFO", validation_alias="INFAAS_LOG_LEVEL")
    """DEBUG, INFO, WARNING or ERROR."""
    drain_timeout_s: float = Field(default=20.0, gt=0, validation_alias="INFAAS_DRAIN_TIMEOUT_S")
    """How long a stopping service may take to finish what it holds."""
    metrics_host: str = Field(default="127.0.0.1", validation_alias="INFAAS_METRICS_HOST")
    """Address of the metrics; `0.0.0.0` for all."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Serves /metrics and /health there; 0 serves neither."""
