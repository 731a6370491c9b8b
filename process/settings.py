"""Settings common to all service processes; the settings class of each service extends this one."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.logs import FORMAT_ENV, LEVEL_ENV, LogFormat
from process.sockets import require_guard
from schemas.defaults import DEFAULT_LATENCY_S, HOME, HOP_S, LOOPBACK


class ServiceSettings(BaseSettings):
    """Settings of every service, read from `INFAAS_*` environment variables; a subclass adds its own prefix."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default=HOME, validation_alias="INFAAS_HOME")
    """Folder of artifacts, logs and embedded servers."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", validation_alias=LEVEL_ENV)
    """Lowest level of messages that are logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: LogFormat = Field(default=LogFormat.TEXT, validation_alias=FORMAT_ENV)
    """Format of log messages: `text`, or `json` for one object a line."""
    drain_timeout_s: float = Field(default=20.0, gt=0, validation_alias="INFAAS_DRAIN_TIMEOUT_S")
    """Maximum seconds for a stopping service to finish its work in progress."""
    hang_s: float = Field(default=10.0, ge=0, validation_alias="INFAAS_HANG_S")
    """Seconds after which a blocked or unresponsive process is ended and replaced; keep it above the durations of
    leases and group sessions. 0: no limit."""
    metrics_host: str = Field(default=LOOPBACK, validation_alias="INFAAS_METRICS_HOST")
    """Address of metrics and health; `0.0.0.0` for all addresses of the machine."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of /metrics and /health; 0 disables both."""
    metrics_allow_anonymous: bool = Field(default=False, validation_alias="INFAAS_METRICS_ALLOW_ANONYMOUS")
    """True if metrics and health may be served without authentication on an INFAAS_METRICS_HOST beyond this machine."""

    @model_validator(mode="after")
    def _guard_metrics(self) -> Self:
        if self.metrics_port:
            require_guard(
                "INFAAS_METRICS_HOST",
                self.metrics_host,
                guarded=False,
                allowed=self.metrics_allow_anonymous,
                remedy=(
                    f"keep {LOOPBACK}, or if a firewall or a network policy restricts access, set "
                    "INFAAS_METRICS_ALLOW_ANONYMOUS=true"
                ),
            )
        return self


class WebhookSettings(ServiceSettings):
    """Settings of gateways and jobs services, which must agree: gateways accept webhooks that jobs services call."""

    webhook_hosts: tuple[str, ...] = Field(default=(), validation_alias="INFAAS_WEBHOOK_HOSTS")
    """Hosts that webhooks of jobs may call, as JSON: `["hooks.example.com", "*.example.org", "ci.example:8443"]`;
    without a port, that of HTTPS. Default: none."""
    webhook_plain_http: bool = Field(default=False, validation_alias="INFAAS_WEBHOOK_PLAIN_HTTP")
    """True if webhooks may use unencrypted HTTP, too."""


class ArtifactUserSettings(ServiceSettings):
    """Settings of workers and registrars, which must agree: workers load the artifacts that registrars store."""

    artifacts: str = Field(default="", validation_alias="INFAAS_ARTIFACTS")
    """Folder of model files, or `s3://bucket/prefix`; default `<home>/artifacts`."""


class PlanningSettings(ServiceSettings):
    """Settings of selectors and autoscalers, which must agree: autoscalers provide the capacity promised."""

    default_latency_s: float = Field(default=DEFAULT_LATENCY_S, gt=0, validation_alias="INFAAS_DEFAULT_LATENCY_S")
    """Latency objective in seconds of an online query that names none: it gets the cheapest variant that meets the
    objective, else the fastest; the autoscaler keeps enough instances to meet it."""
    hop_s: float = Field(default=HOP_S, ge=0, validation_alias="INFAAS_HOP_S")
    """Assumed latency of the queues in seconds until it has been measured."""
