"""Settings common to all service processes; each service's own settings class extends this one."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.exposure import require_guard
from process.logs import FORMAT_ENV, LEVEL_ENV, LogFormat
from schemas.defaults import DEFAULT_LATENCY_S, HOME, HOP_S, LOOPBACK


class ServiceSettings(BaseSettings):
    """Settings that every service has, read from `INFAAS_*` environment variables; a subclass adds its own prefix."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default=HOME, validation_alias="INFAAS_HOME")
    """Folder of artifacts, logs and embedded servers."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", validation_alias=LEVEL_ENV)
    """Least severe messages that are logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: LogFormat = Field(default=LogFormat.TEXT, validation_alias=FORMAT_ENV)
    """How they are written: `text`, or `json`, an object a line."""
    drain_timeout_s: float = Field(default=20.0, gt=0, validation_alias="INFAAS_DRAIN_TIMEOUT_S")
    """Seconds that a stopping service may take to finish what it holds."""
    hang_s: float = Field(default=10.0, ge=0, validation_alias="INFAAS_HANG_S")
    """Seconds for which a process may stand still, or not say that it lives, before it is ended and another started;
    longer than leases and memberships of groups last. 0: for ever."""
    metrics_host: str = Field(default=LOOPBACK, validation_alias="INFAAS_METRICS_HOST")
    """Address that metrics and health are served on; `0.0.0.0` for all of the machine's."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of /metrics and /health; 0 serves neither."""
    metrics_allow_anonymous: bool = Field(default=False, validation_alias="INFAAS_METRICS_ALLOW_ANONYMOUS")
    """Whether anyone who reaches an INFAAS_METRICS_HOST beyond this machine may read metrics and health."""

    @model_validator(mode="after")
    def _guard_metrics(self) -> Self:
        if self.metrics_port:
            require_guard(
                "INFAAS_METRICS_HOST",
                self.metrics_host,
                guarded=False,
                allowed=self.metrics_allow_anonymous,
                remedy=f"keep {LOOPBACK}, or where a firewall or a network policy says who comes, set "
                "INFAAS_METRICS_ALLOW_ANONYMOUS=true",
            )
        return self


class JobSettings(ServiceSettings):
    """Settings of gateways and jobs services, which must agree: the one promises what the other has to do."""

    webhook_hosts: tuple[str, ...] = Field(default=(), validation_alias="INFAAS_WEBHOOK_HOSTS")
    """Hosts to which webhooks of jobs may go, as JSON: `["hooks.example.com", "*.example.org", "ci.example:8443"]`;
    without a port, that of HTTPS. None unless you name some."""
    webhook_plain_http: bool = Field(default=False, validation_alias="INFAAS_WEBHOOK_PLAIN_HTTP")
    """Whether webhooks may go over HTTP that is not encrypted, too."""


class ArtifactUserSettings(ServiceSettings):
    """Settings of workers and registrars, which must agree: the one loads what the other keeps."""

    artifacts: str = Field(default="", validation_alias="INFAAS_ARTIFACTS")
    """Folder of model files, or `s3://bucket/prefix`; default `<home>/artifacts`."""


class PlanningSettings(ServiceSettings):
    """Settings of selectors and autoscalers, which must agree: the one promises what the other has to provide."""

    default_latency_s: float = Field(default=DEFAULT_LATENCY_S, gt=0, validation_alias="INFAAS_DEFAULT_LATENCY_S")
    """Seconds in which an online query that names no latency should be answered: it takes the cheapest variant that
    answers within this, else the one that answers soonest; instances are scaled so that one can."""
    hop_s: float = Field(default=HOP_S, ge=0, validation_alias="INFAAS_HOP_S")
    """Seconds that the queues are assumed to add to a latency until they have been measured."""
