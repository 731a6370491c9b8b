"""Settings of a jobs service: `INFAAS_JOBS_*`."""

import binascii
from ipaddress import ip_network
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from jobs.addresses import Network
from jobs.events import signing_keys
from jobs.retries import RetryPolicy
from process.settings import JobSettings
from schemas.errors import OperatorError

_DAY_S = 86_400.0


class JobsSettings(JobSettings):
    """Settings read from `INFAAS_JOBS_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_JOBS_", frozen=True, extra="ignore")

    batch: int = Field(default=500, ge=1)
    """Most jobs that are sent in one transaction."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Most results that were read and are not written yet."""
    max_attempts: int = Field(default=10, ge=1)
    """Times that a job is sent whose query is answered by an error that may pass, as when all are busy."""
    retry_pause_s: float = Field(default=2.0, gt=0)
    """Seconds until such a job is sent for the second time; twice as many before each further one."""
    deadline_grace_s: float = Field(default=5.0, ge=0)
    """Seconds after its deadline for which a job that is on its way still waits for its answer."""
    unregistered_s: float = Field(default=30.0, ge=0)
    """Seconds for which a task must have been gone before its jobs are told so: some may be computed still."""
    lost_s: float = Field(default=60.0, gt=0)
    """Seconds for which a job must be on its way with nothing of its task left in Kafka, before it is sent again."""
    interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks at what is due, where no event tells; up to eight times as many while nothing is."""
    tidy_interval_s: float = Field(default=30.0, gt=0)
    """Seconds between two looks for what is lost, and for what was kept for long enough."""
    result_retention_s: float = Field(default=_DAY_S, gt=0)
    """Seconds for which the result of a job is kept after its end."""
    retention_s: float = Field(default=7 * _DAY_S, gt=0)
    """Seconds for which it is known after its end that a job was there, and what became of it."""
    webhook_secret: SecretStr | None = None
    """Secret that signs webhooks, `whsec_` and 24 to 64 bytes in base64; several, parted by spaces, while one replaces
    another."""
    webhook_networks: tuple[str, ...] = ()
    """Networks beside the public internet to which webhooks may go, as JSON: `["10.20.0.0/16"]`."""
    webhook_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds in which a webhook must have answered."""
    webhook_concurrency: int = Field(default=32, ge=1)
    """Webhooks that are called at once."""
    webhook_attempts: int = Field(default=12, ge=1)
    """Times that a webhook is called which does not answer as it should."""
    webhook_pause_s: float = Field(default=5.0, gt=0)
    """Seconds, more or less, until a webhook is called for the second time; twice as many before each further one."""
    webhook_max_pause_s: float = Field(default=3600.0, gt=0)
    """Most seconds, more or less, between two calls."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            _ = self.networks, self.keys
        except (ValueError, binascii.Error) as error:
            raise OperatorError(f"INFAAS_JOBS_WEBHOOK_NETWORKS or INFAAS_JOBS_WEBHOOK_SECRET: {error}") from None
        if self.webhook_hosts and not self.keys:
            raise OperatorError(
                "INFAAS_WEBHOOK_HOSTS allows webhooks, and nothing signs them: set INFAAS_JOBS_WEBHOOK_SECRET, e.g. to "
                '"whsec_$(openssl rand -base64 32)"'
            )
        return self

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Keys that sign webhooks."""
        return signing_keys(self.webhook_secret.get_secret_value()) if self.webhook_secret else ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks beside the public internet to which webhooks may go."""
        return tuple(ip_network(text) for text in self.webhook_networks)

    @property
    def retry_policy(self) -> RetryPolicy:
        """When webhooks are called again."""
        return RetryPolicy(self.webhook_attempts, self.webhook_pause_s, self.webhook_max_pause_s)
