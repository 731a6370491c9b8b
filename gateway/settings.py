"""Settings of the gateway: `INFAAS_GATEWAY_*`."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from process.settings import WebhookSettings
from process.sockets import require_guard
from process.tls import TlsFiles
from schemas.defaults import ANSWER_TIMEOUT_S, GATEWAY_PORT, LOOPBACK, MAX_IN_FLIGHT


class GatewaySettings(WebhookSettings):
    """Settings read from `INFAAS_GATEWAY_*`; common settings from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_GATEWAY_", frozen=True, extra="ignore")

    host: str = LOOPBACK
    """Address to listen on; `0.0.0.0` for all."""
    port: int = Field(default=GATEWAY_PORT, ge=0, le=65535)
    """Port to listen on; 0 chooses a free port and logs it."""
    tls_cert: Path | None = None
    """PEM file of the certificate for HTTPS and its intermediate certificates. Certificate, key and authorities are
    reloaded when their files change, or on SIGHUP; open connections are kept."""
    tls_key: Path | None = None
    """PEM file of the certificate's key, not encrypted."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities of client certificates; clients without such a certificate are refused."""
    allow_anonymous: bool = False
    """True if clients may use a `host` beyond this machine without authentication."""
    auth: bool = False
    """True if callers must authenticate, e.g. by an API key (`infaas keys create`) or a token; else all may do
    anything."""
    oidc_issuer: str = ""
    """URL of the OpenID Connect issuer whose tokens are accepted besides API keys; empty: none."""
    oidc_audience: str = ""
    """Required audience of the issuer's tokens (`aud`)."""
    oidc_jwks_url: str = ""
    """URL of the issuer's public keys; empty: the one in its discovery document."""
    oidc_client_id: str = ""
    """Client id of the console at the issuer; empty: the console offers no sign-in there."""
    oidc_client_secret_file: Path | None = None
    """File with the secret of that client; unset: it is a public client, which PKCE protects."""
    oidc_tenant_claim: str = "tenant"
    """Claim that holds the tenant; dots lead into claims, as in `realm_access.roles`."""
    oidc_roles_claim: str = "roles"
    """Claim that lists roles: query, publish, admin. Others are ignored."""
    oidc_role_prefix: str = ""
    """Prefix of our roles in that claim, e.g. `infaas:`."""
    oidc_tasks_claim: str = "tasks"
    """Claim that lists permitted tasks; a token without it may use all tasks."""
    oidc_per_second: float | None = Field(default=None, gt=0)
    """Maximum queries a second of each token subject."""
    oidc_concurrent: int | None = Field(default=None, ge=1)
    """Maximum concurrent queries of each token subject."""
    oidc_leeway_s: float = Field(default=5.0, ge=0, le=300)
    """Permitted clock difference to the issuer in seconds: a token is valid this much before its `nbf` and after its
    `exp`."""
    oidc_pause_s: float = Field(default=30.0, gt=0)
    """Minimum seconds between two readings of the issuer's keys, however many tokens name an unknown key."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """Port for gRPC, which needs the extra `grpc`; 0 chooses a free port and logs it. Unset: no gRPC."""
    console: bool = True
    """True if browsers find the console at `/console`."""
    console_url: str = ""
    """Address of the gateway as browsers see it, e.g. `https://infaas.example.com`, for the return from the issuer;
    empty: as the request states it."""
    reuse_port: bool = False
    """True if several gateways of this machine may listen on the same ports; the kernel distributes connections."""
    max_body_bytes: int = Field(default=15 * 1024 * 1024, ge=1024)
    """Maximum bytes of a request; larger ones are answered 413. Must stay below INFAAS_KAFKA_MAX_RECORD_BYTES."""
    max_bodies_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """Maximum bytes of all requests held at once, complete or not; more are answered 503. Bodies above 256 KiB may use
    three quarters of it."""
    max_upload_bytes: int = Field(default=20 * 1024**3, ge=1024)
    """Maximum bytes of an uploaded file for a registration; larger ones are answered 413."""
    max_uploads_bytes: int = Field(default=100 * 1024**3, ge=1024)
    """Maximum bytes of all stored uploads of a tenant; more are answered 429."""
    max_uploads: int = Field(default=16, ge=1)
    """Maximum concurrent uploads, half of them of one tenant; more are answered 503. Each MiB must arrive within the
    receive timeout."""
    max_file_bytes: int = Field(default=200 * 1024**2, ge=1024)
    """Maximum bytes of a file of OpenAI's API; larger ones are answered 413. It counts as an upload."""
    file_retention_s: float = Field(default=30 * 86_400.0, gt=0)
    """Seconds for which a file of OpenAI's API and an ended batch are kept, unless the file's owner wants less."""
    manual: Path | None = None
    """Folder of the manual as a site (`make docs-site`), served at `/docs`; unset: the one in the installed package, if
    it has one."""
    receive_timeout_s: float = Field(default=20.0, gt=0)
    """Timeout in seconds for the head of a request, then for its body, and for a gRPC message; answered 408 or
    INVALID_ARGUMENT. An HTTP client that takes longer to read a response is disconnected."""
    max_connections: int = Field(default=10_000, ge=1)
    """Maximum connections over HTTP, and again over gRPC, or fewer if the limit of open files is low; more are answered
    503 and closed, or closed at once over gRPC."""
    max_in_flight: int = Field(default=MAX_IN_FLIGHT, ge=1)
    """Maximum queries that wait for their result at once; more are answered 503."""
    wait_s: float = Field(default=ANSWER_TIMEOUT_S, gt=0)
    """Seconds that a query without a deadline waits for its result before it is answered 504."""
    grace_s: float = Field(default=1.0, ge=0)
    """Seconds after a query's deadline for which its result or its error is still awaited."""
    max_jobs: int = Field(default=200_000, ge=1)
    """Maximum unfinished jobs of all gateways; more are answered 429."""
    max_jobs_bytes: int = Field(default=4 * 1024**3, ge=1024)
    """Maximum bytes of the requests of unfinished jobs of all gateways; more are answered 429."""
    ack_timeout_s: float = Field(default=2.0, gt=0)
    """Seconds without an acknowledgement after which Kafka counts as down and queries are answered 503 at once."""

    @property
    def tls_files(self) -> TlsFiles | None:
        """TLS files for HTTPS; None: plain HTTP."""
        return TlsFiles.given(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def secure_cookies(self) -> bool:
        """True if browsers reach the console by HTTPS, perhaps at a proxy that ends it."""
        return self.tls_files is not None or self.console_url.lower().startswith("https://")

    @property
    def request_drain_s(self) -> float:
        """Drain timeout of requests; the rest of the time is for closing connections to Kafka and Postgres."""
        return 0.8 * self.drain_timeout_s

    @model_validator(mode="after")
    def _guard(self) -> Self:
        require_known_clients("--host", self.host, self.tls_files, auth=self.auth, allow_anonymous=self.allow_anonymous)
        return self


def require_known_clients(flag: str, host: str, tls: TlsFiles | None, *, auth: bool, allow_anonymous: bool) -> None:
    """Check that a gateway authenticates its clients, or that anonymous ones are allowed; `flag` names its host.

    Raises:
        OperatorError: anonymous clients could connect, and the operator has not allowed it.
    """
    require_guard(
        flag,
        host,
        guarded=auth or (tls is not None and tls.client_ca is not None),
        allowed=allow_anonymous,
        remedy="require keys (--auth) or certificates (--tls-cert, --tls-key, --tls-client-ca) of clients, or set "
        "--allow-anonymous",
    )
