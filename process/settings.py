"""Settings common to all service processes; each service's own settings class extends this one."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.defaults import DEFAULT_LATENCY_S, HOME, HOP_S, LOOPBACK


class ServiceSettings(BaseSettings):
    """Read from `INFAAS_*` environment variables; a subclass adds its own prefix."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default=HOME, validation_alias="INFAAS_HOME")
    """Where artifacts, logs and embedded servers live."""
    log_level: str = Field(default="INFO", validation_alias="INFAAS_LOG_LEVEL")
    """DEBUG, INFO, WARNING or ERROR."""
    drain_timeout_s: float = Field(default=20.0, gt=0, validation_alias="INFAAS_DRAIN_TIMEOUT_S")
    """How long a stopping service may take to finish what it holds."""
    metrics_host: str = Field(default=LOOPBACK, validation_alias="INFAAS_METRICS_HOST")
    """Address of the metrics; `0.0.0.0` for all."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Serves /metrics and /health there; 0 serves neither."""


class PlanningSettings(ServiceSettings):
    """What whoever chooses and whoever scales must assume alike, or one promises what the other does not provide."""

    default_latency_s: float = Field(default=DEFAULT_LATENCY_S, gt=0, validation_alias="INFAAS_DEFAULT_LATENCY_S")
    """Latency taken for an online query that names none: it takes the cheapest variant that answers within this; if
    none does, the soonest. The workers are scaled so that there is one."""
    hop_s: float = Field(default=HOP_S, ge=0, validation_alias="INFAAS_HOP_S")
    """What the queues are taken to add to a latency. Selectors measure it, and assume this until they have."""
