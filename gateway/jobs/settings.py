"""Settings of a jobs service: `INFAAS_JOBS_*`."""

import binascii
from ipaddress import ip_network
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.jobs.webhooks import Network, signing_keys
from process.backoff import Backoff
from process.settings import WebhookSettings
from schemas.errors import OperatorError

_DAY_S = 86_400.0


class JobsSettings(WebhookSettings):
    """Settings read from `INFAAS_JOBS_*`; common settings from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_JOBS_", frozen=True, extra="ignore")

    batch: int = Field(default=500, ge=1)
    """Maximum number of jobs that are sent in one transaction."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Maximum number of results that are read but not yet stored."""
    max_attempts: int = Field(default=10, ge=1)
    """Maximum number of times that a job is sent if its query fails with a retryable error, such as overload."""
    retry_pause_s: float = Field(default=2.0, gt=0)
    """Seconds before such a job is sent for the second time; doubled before each further time."""
    deadline_grace_s: float = Field(default=5.0, ge=0)
    """Seconds after its deadline for which a sent job still waits for its result."""
    unregistered_s: float = Field(default=30.0, ge=0)
    """Seconds after a task was unregistered until its jobs fail: some may still be computed."""
    lost_s: float = Field(default=60.0, gt=0)
    """Seconds for which a job must be sent while Kafka holds no work of its task, before it is sent again."""
    interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two polls for due work without an event; up to eight times as long while there is none."""
    tidy_interval_s: float = Field(default=30.0, gt=0)
    """Seconds between two checks for lost jobs and for expired results and jobs."""
    result_retention_s: float = Field(default=_DAY_S, gt=0)
    """Seconds for which the result of a job is kept after its end."""
    retention_s: float = Field(default=7 * _DAY_S, gt=0)
    """Seconds for which the state of a job is kept after its end."""
    webhook_secret: SecretStr | None = None
    """Secret that signs webhooks, `whsec_` and 24 to 64 bytes in base64; during a rotation several, separated by
    spaces."""
    webhook_networks: tuple[str, ...] = ()
    """Networks besides the public internet that webhooks may call, as JSON: `["10.20.0.0/16"]`."""
    webhook_timeout_s: float = Field(default=10.0, gt=0)
    """Timeout of a webhook call in seconds."""
    webhook_concurrency: int = Field(default=32, ge=1)
    """Maximum number of concurrent webhook calls."""
    webhook_attempts: int = Field(default=12, ge=1)
    """Maximum number of calls of a webhook that fails."""
    webhook_pause_s: float = Field(default=5.0, gt=0)
    """Approximate seconds before a webhook is called for the second time; doubled before each further time."""
    webhook_max_pause_s: float = Field(default=3600.0, gt=0)
    """Approximate maximum seconds between two calls."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            _ = self.networks, self.keys
        except (ValueError, binascii.Error) as error:
            raise OperatorError(f"INFAAS_JOBS_WEBHOOK_NETWORKS or INFAAS_JOBS_WEBHOOK_SECRET: {error}") from None
        if self.webhook_hosts and not self.keys:
            raise OperatorError(
                "INFAAS_WEBHOOK_HOSTS allows webhooks, and no secret signs them: set INFAAS_JOBS_WEBHOOK_SECRET, e.g. "
                'to "whsec_$(openssl rand -base64 32)"'
            )
        return self

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Keys that sign webhooks."""
        return signing_keys(self.webhook_secret.get_secret_value()) if self.webhook_secret else ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks besides the public internet that webhooks may call."""
        return tuple(ip_network(text) for text in self.webhook_networks)

    @property
    def webhook_backoff(self) -> Backoff:
        """Pauses between calls of a webhook."""
        return Backoff(self.webhook_pause_s, self.webhook_max_pause_s, jitter=0.5)
