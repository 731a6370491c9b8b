"""Settings of the gateway: `INFAAS_GATEWAY_*`."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from process.exposure import require_guard
from process.settings import JobSettings
from process.tls import TlsFiles
from schemas.defaults import ANSWER_TIMEOUT_S, GATEWAY_PORT, LOOPBACK, MAX_IN_FLIGHT


class GatewaySettings(JobSettings):
    """Settings read from `INFAAS_GATEWAY_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_GATEWAY_", frozen=True, extra="ignore")

    host: str = LOOPBACK
    """Address to listen on; `0.0.0.0` for all."""
    port: int = Field(default=GATEWAY_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the log names."""
    tls_cert: Path | None = None
    """File in PEM of the certificate to serve HTTPS with, and those between it and its authority. It, the key and the
    authorities are read anew when they change, or on SIGHUP; connections that run stay."""
    tls_key: Path | None = None
    """File in PEM of the certificate's key, not encrypted."""
    tls_client_ca: Path | None = None
    """File in PEM of the authorities by which clients must be certified; nobody else is let in."""
    allow_anonymous: bool = False
    """Whether anyone who reaches a `host` beyond this machine may ask anything."""
    auth: bool = False
    """Whether whoever asks must show an API key (`infaas keys create`) or a token; without, anyone may do anything."""
    oidc_issuer: str = ""
    """URL of the OpenID Connect issuer whose tokens are believed beside API keys; empty: none."""
    oidc_audience: str = ""
    """What tokens of the issuer must be made out to (`aud`)."""
    oidc_jwks_url: str = ""
    """URL of the issuer's public keys; empty: where its discovery document says."""
    oidc_tenant_claim: str = "tenant"
    """Claim that names the tenant; dots lead into claims, as in `realm_access.roles`."""
    oidc_roles_claim: str = "roles"
    """Claim that lists roles: query, publish, admin. Others are ignored."""
    oidc_role_prefix: str = ""
    """What our roles begin with in that claim, e.g. `infaas:`."""
    oidc_tasks_claim: str = "tasks"
    """Claim that lists the tasks which may be asked; a token without it may ask all."""
    oidc_per_second: float | None = Field(default=None, gt=0)
    """Most queries a second of each subject of tokens."""
    oidc_concurrent: int | None = Field(default=None, ge=1)
    """Most queries of each subject of tokens that wait at once."""
    oidc_leeway_s: float = Field(default=5.0, ge=0, le=300)
    """Seconds by which the issuer's clock may differ from the gateway's: a token counts for so long before its `nbf`
    and after its `exp`."""
    oidc_pause_s: float = Field(default=30.0, gt=0)
    """Least seconds between two readings of the issuer's keys, however many tokens name one that is not known."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """Port to listen on for gRPC, which needs the extra `grpc`; 0 takes a free one, which the log names. Not set: no
    gRPC."""
    reuse_port: bool = False
    """Whether other gateways of this machine may listen on the same ports: the kernel spreads connections over them."""
    max_body_bytes: int = Field(default=15 * 1024 * 1024, ge=1024)
    """Most bytes of a request; larger ones are answered 413. Must stay below INFAAS_KAFKA_MAX_RECORD_BYTES."""
    max_bodies_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """Most bytes of all requests that are held at once, whole or not; what does not fit is answered 503. Bodies of more
    than 256 KiB may fill three quarters of it."""
    max_upload_bytes: int = Field(default=20 * 1024**3, ge=1024)
    """Most bytes of a file that is uploaded to be registered; larger ones are answered 413."""
    max_uploads_bytes: int = Field(default=100 * 1024**3, ge=1024)
    """Most bytes of all uploads of a tenant that are kept; more are answered 429."""
    max_uploads: int = Field(default=16, ge=1)
    """Files that are uploaded at once, of one tenant half as many; more are answered 503. Each MiB of one must arrive
    within the time below."""
    receive_timeout_s: float = Field(default=20.0, gt=0)
    """Seconds in which the head of a request, and then its body, must arrive, and a message of gRPC; what takes longer
    is answered 408, or INVALID_ARGUMENT. As long may a client take over an answer of HTTP, before it is let go."""
    max_connections: int = Field(default=10_000, ge=1)
    """Most connections at once over HTTP, and as many over gRPC, fewer where the system allows fewer open files; more
    are answered 503 and closed, those of gRPC closed at once."""
    max_in_flight: int = Field(default=MAX_IN_FLIGHT, ge=1)
    """Most queries that wait for their result at once; more are answered 503."""
    wait_s: float = Field(default=ANSWER_TIMEOUT_S, gt=0)
    """Seconds that a query without a deadline waits for its result before it is answered 504."""
    grace_s: float = Field(default=1.0, ge=0)
    """Seconds after a query's deadline for which its result, or the reason why there is none, is still waited for."""
    max_jobs: int = Field(default=200_000, ge=1)
    """Most jobs that have not ended, of all gateways; more are answered 429."""
    max_jobs_bytes: int = Field(default=4 * 1024**3, ge=1024)
    """Most bytes of the requests of jobs that have not ended, of all gateways; more are answered 429."""
    ack_timeout_s: float = Field(default=2.0, gt=0)
    """Seconds without an acknowledgement after which Kafka counts as down, and queries are answered 503 at once."""

    @property
    def tls_files(self) -> TlsFiles | None:
        """Files to serve HTTPS with; None: it is HTTP."""
        return TlsFiles.given(self.tls_cert, self.tls_key, self.tls_client_ca)

    @model_validator(mode="after")
    def _guard(self) -> Self:
        require_known_clients("--host", self.host, self.tls_files, auth=self.auth, allow_anonymous=self.allow_anonymous)
        return self


def require_known_clients(flag: str, host: str, tls: TlsFiles | None, *, auth: bool, allow_anonymous: bool) -> None:
    """Check that a gateway lets in whom it knows, or that a person wants it otherwise; `flag` is what names its host.

    Raises:
        OperatorError: anyone would be let in, and nobody wanted that.
    """
    require_guard(
        flag,
        host,
        guarded=auth or (tls is not None and tls.client_ca is not None),
        allowed=allow_anonymous,
        remedy="have clients show keys (--auth) or certificates (--tls-cert, --tls-key, --tls-client-ca), or say "
        "--allow-anonymous",
    )
