"""Settings for Kafka, one object for all producers, consumers and admin clients; and for reply streams beside it.

Read from `INFAAS_KAFKA` (the address), `INFAAS_KAFKA_*` (the rest) and `INFAAS_REPLY_STREAM*`. An invalid value raises
an `OperatorError` that names the variable, whether the value has the wrong type or contradicts another one. Secrets are
`SecretStr`: no repr, log line or error message shows them.
"""

from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from pydantic import Field, ModelWrapValidatorHandler, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.errors import is_host
from schemas.defaults import KAFKA_PORT, LOOPBACK
from schemas.errors import OperatorError
from schemas.query import MOST_LINGER_MS
from schemas.topics import NAMESPACE, NAMESPACE_ENV, is_namespace

ENV: Final = "INFAAS_KAFKA"
PREFIX: Final = "INFAAS_KAFKA_"
_STREAM_ENV: Final = "INFAAS_REPLY_STREAM"


class ReplyStreamSettings(BaseSettings):
    """Settings of both ends of reply streams; those of a sender and of a receiver may differ.

    Raises:
        OperatorError: a value is invalid; the message names the variable.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=f"{_STREAM_ENV}_", frozen=True, extra="ignore", populate_by_name=True
    )

    enabled: bool = Field(default=True, validation_alias=_STREAM_ENV)
    """Receive and send results over reply streams; if false, all results go by topic."""
    host: str = LOOPBACK
    """IP address that gateways and clients listen on for results; `0.0.0.0` for all addresses of the machine."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port to listen on; 0: any free one."""
    advertise: str = ""
    """IP address that workers and selectors connect to; the one listened on if empty."""
    tls: bool | None = None
    """Encrypt results, by a certificate that the receiver makes for itself. If not set, results are encrypted if Kafka
    is reached by TLS and the receiver's address is not a loopback address. Workers and selectors then send none in
    clear to other machines."""
    networks: str = "127.0.0.0/8,::1/128"
    """Networks, separated by commas, that workers and selectors connect to. Queries name the address of their receiver;
    outside of these networks their results go by topic."""

    def encrypts_results(self, kafka_encrypted: bool, host: str = "") -> bool:
        """Return true if results go by TLS to `host`; empty: to the receiver of these settings.

        `kafka_encrypted`: Kafka is reached by TLS. Results on a loopback address do not leave the machine.
        """
        here = ip_address(host or self.advertise or self.host).is_loopback
        return kafka_encrypted and not here if self.tls is None else self.tls

    @cached_property
    def allowed(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks that a sender connects to."""
        return tuple(ip_network(text.strip()) for text in self.networks.split(",") if text.strip())

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in filter(None, map(str.strip, text.split(","))):
            ip_network(part)
        return text

    @field_validator("host", "advertise")
    @classmethod
    def _is_address(cls, text: str) -> str:
        if text:
            ip_address(text)
        return text

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            settings = handler(data)
        except ValidationError as error:
            raise OperatorError(_describe(error, f"{_STREAM_ENV}_", _STREAM_ENV, "enabled")) from None
        if not settings.advertise and ip_address(settings.host or LOOPBACK).is_unspecified:
            raise OperatorError(
                f"{_STREAM_ENV}_HOST={settings.host}: set {_STREAM_ENV}_ADVERTISE to the address that others reach"
            )
        return settings


_LOGIN: Final = (
    *("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password_file", "sasl_token_file"),
    *("tls_ca", "tls_certificate", "tls_key", "tls_check_hostname"),
)
"""Names of the settings for authentication and encryption, without secrets."""


class SecurityProtocol(StrEnum):
    """Encryption and authentication of a connection, by Kafka's names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class SaslMechanism(StrEnum):
    """Mechanism by which a client authenticates, by Kafka's names."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


class Compression(StrEnum):
    """Compression of the record batches that are produced."""

    NONE = "none"
    GZIP = "gzip"
    LZ4 = "lz4"
    ZSTD = "zstd"


class KafkaSettings(BaseSettings):
    """Address of Kafka, access to it, and the configuration of the topics that are created there.

    Raises:
        OperatorError: a value is invalid; the message names the variable and a valid value.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True
    )

    bootstrap: str = Field(default=f"{LOOPBACK}:{KAFKA_PORT}", validation_alias=ENV)
    """Address of one or more brokers: `host:port`, separated by commas."""
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism = SaslMechanism.PLAIN
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = None
    """File with the password, which keeps it out of the environment; read by each client that is made."""
    sasl_token: SecretStr | None = None
    """OAUTHBEARER token that does not expire while the process runs."""
    sasl_token_file: Path | None = None
    """File with an OAUTHBEARER token that another program renews; read at each authentication."""
    tls_ca: Path | None = None
    """File of trusted PEM certificates; the system's if absent."""
    tls_certificate: Path | None = None
    """File of this client's PEM certificate, if the broker requires one."""
    tls_key: Path | None = None
    tls_key_password: SecretStr | None = None
    tls_check_hostname: bool = True
    compression: Compression = Compression.NONE
    request_timeout_ms: int = Field(default=10_000, ge=100)
    """Milliseconds without an answer after which a request, or an unacknowledged record, has failed."""
    fetch_max_wait_ms: int = Field(default=500, ge=1)
    """Milliseconds that the broker may hold a fetch while there are no new records; more after some seconds without
    records, see `broker.fetch.fetch_request`. Apache Kafka answers a waiting fetch as soon as a record arrives. The
    embedded broker does not, so there this bounds the latency of each hop: `infaas up` sets 10."""
    max_linger_ms: float = Field(default=MOST_LINGER_MS, ge=0, le=MOST_LINGER_MS)
    """Longest time in milliseconds that a gateway or a client keeps a query so that others go with it, while the
    machine is short of CPU time. When there is almost none left, a selector also keeps the queries of other producers,
    for 10 ms at most. 0 disables both."""
    max_in_flight_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of unfinished records that all consumers of a worker or selector may hold together. Half is divided evenly
    among them; half is first come, first served. Records fetched in advance come on top."""
    max_record_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Bytes of the largest record that is produced; topics are created to accept it."""
    session_timeout_ms: int = Field(default=6_000, ge=1_000)
    """Milliseconds without a heartbeat after which a member of a consumer group is replaced. Brokers allow 6000 and
    more by default."""
    replication_factor: int = Field(default=1, ge=1)
    """Replicas of the topics created here; 3 for a production cluster."""
    retention_ms: int = Field(default=3_600_000, ge=1_000)
    """Milliseconds that topics of results, statuses and demands keep records. Queries are kept until they are done."""
    dead_letter_retention_ms: int = Field(default=28 * 86_400_000, ge=1_000)
    """Milliseconds that dead letters are kept, so that they can be inspected and replayed."""
    dead_letter_retention_bytes: int = Field(default=1024**3, ge=1)
    """Bytes of dead letters that are kept per replica. Beyond that the oldest are deleted, in whole segments of 64
    MiB."""
    result_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds after which a result that its reply topic does not accept becomes a dead letter, or the query's deadline
    if that is earlier. During an outage of Kafka, results wait longer."""
    namespace: str = NAMESPACE
    """Prefix of the names of all topics, consumer groups and transactional ids, so that several systems can share one
    Kafka: `staging` makes `staging.tasks.<task>`. Read once, when a process starts."""
    reply_stream: ReplyStreamSettings = Field(default_factory=ReplyStreamSettings)
    """Settings of reply streams, over which results go directly to their receivers, beside Kafka."""

    @property
    def encrypted(self) -> bool:
        """True if brokers are reached by TLS."""
        return self.security_protocol in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            settings = handler(data)
        except ValidationError as error:
            raise OperatorError(_describe(error, PREFIX, ENV, "bootstrap")) from None
        settings._check()
        return settings

    def _check(self) -> None:
        if not is_namespace(self.namespace):
            raise OperatorError(
                f"{PREFIX}NAMESPACE={self.namespace!r}: use 1 to 32 of a-z, 0-9 and '-', starting and ending with a "
                "letter or digit"
            )
        if self.namespace != NAMESPACE:
            raise OperatorError(
                f"the namespace of a running process cannot change from {NAMESPACE}: set "
                f"{NAMESPACE_ENV}={self.namespace} before its start"
            )
        for address in self.bootstrap.split(","):
            host, colon, port = address.strip().rpartition(":")
            if not (is_host(host) and colon and port.isdecimal() and 0 < int(port) < 65_536):
                raise OperatorError(f"{ENV}={self.bootstrap!r}: write host:port, e.g. {LOOPBACK}:{KAFKA_PORT}")
        if self.security_protocol in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL):
            self._check_sasl()
        elif any(value for name, value in self if name.startswith("sasl_") and name != "sasl_mechanism"):
            raise OperatorError(
                f"SASL credentials are set but {PREFIX}SECURITY_PROTOCOL is {self.security_protocol}: "
                "set it to SASL_SSL (or SASL_PLAINTEXT), or remove them"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise OperatorError(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY belong together: set both or neither")
        for path in (self.tls_ca, self.tls_certificate, self.tls_key, self.sasl_password_file, self.sasl_token_file):
            if path is not None and not path.is_file():
                raise OperatorError(f"{path}, named by a {PREFIX}* setting, is not a file")

    def _check_sasl(self) -> None:
        if self.sasl_mechanism is SaslMechanism.OAUTHBEARER:
            if (self.sasl_token is None) == (self.sasl_token_file is None):
                raise OperatorError(f"OAUTHBEARER: set one of {PREFIX}SASL_TOKEN and {PREFIX}SASL_TOKEN_FILE")
        elif not self.sasl_username or (self.sasl_password is None) == (self.sasl_password_file is None):
            raise OperatorError(
                f"{self.sasl_mechanism}: set {PREFIX}SASL_USERNAME, and one of {PREFIX}SASL_PASSWORD and "
                f"{PREFIX}SASL_PASSWORD_FILE"
            )

    @property
    def login(self) -> dict[str, str]:
        """Settings for authentication and encryption that were set, by name: files of secrets, never secrets."""
        said = {name: getattr(self, name) for name in _LOGIN if name in self.model_fields_set}
        return {name: str(value.absolute() if isinstance(value, Path) else value) for name, value in said.items()}

    @property
    def password(self) -> str | None:
        """Password for SASL, from the setting or from its file; None if there is none.

        Raises:
            OperatorError: the file cannot be read.
        """
        if self.sasl_password is not None:
            return self.sasl_password.get_secret_value()
        if self.sasl_password_file is None:
            return None
        try:
            return self.sasl_password_file.read_text().strip()
        except (OSError, UnicodeError) as error:
            raise OperatorError(f"cannot read {PREFIX}SASL_PASSWORD_FILE: {error}") from None


def _describe(error: ValidationError, prefix: str, whole: str, field: str) -> str:
    """Describe each wrong value without the value, which may be a secret.

    A variable is called `prefix` plus the name of its field, except the one called `whole`, which sets `field`.
    """
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        variable = whole if name in (field, whole) else f"{prefix}{name.upper()}"
        found.append(f"{variable}: {problem['msg']}")
    return "; ".join(found)
