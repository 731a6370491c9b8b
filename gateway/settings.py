"""Settings of the gateway: `INFAAS_GATEWAY_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from process.settings import ServiceSettings
from schemas.defaults import ANSWER_TIMEOUT_S, GATEWAY_PORT, LOOPBACK, MAX_IN_FLIGHT


class GatewaySettings(ServiceSettings):
    """Settings read from `INFAAS_GATEWAY_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_GATEWAY_", frozen=True, extra="ignore")

    host: str = LOOPBACK
    """Address to listen on; `0.0.0.0` for all."""
    port: int = Field(default=GATEWAY_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the log names."""
    max_body_bytes: int = Field(default=15 * 1024 * 1024, ge=1024)
    """Most bytes of a request; larger ones are answered 413. Must stay below INFAAS_KAFKA_MAX_RECORD_BYTES."""
    max_in_flight: int = Field(default=MAX_IN_FLIGHT, ge=1)
    """Most queries that wait for their result at once; more are answered 503."""
    wait_s: float = Field(default=ANSWER_TIMEOUT_S, gt=0)
    """Seconds that a query without a deadline waits for its result before it is answered 504."""
    grace_s: float = Field(default=1.0, ge=0)
    """Seconds after a query's deadline for which its result, or the reason why there is none, is still waited for."""
    ack_timeout_s: float = Field(default=2.0, gt=0)
    """Seconds without an acknowledgement after which Kafka counts as down, and queries are answered 503 at once."""
