"""Factory of all aiokafka objects: security, timeouts and defaults are decided here."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from broker.kafka.sasl_connections import SaslConnections
from broker.kafka.settings import ENV, PREFIX, Compression, KafkaSettings, SaslMechanism
from process.errors import why_not_connected
from process.module_names import module_name
from process.outages import Outage
from schemas.errors import OperatorError

log = logging.getLogger(__name__)
T = TypeVar("T")

OUTAGE: Final = Outage("Kafka", (KafkaError,), (module_name("broker."), "aiokafka"))
"""Outage of Kafka, as the connections of this process observe it."""
STOP_S: Final = 5.0
_CONNECT_S: Final = 2.0
_LAST_S: Final = 1.0
"""Seconds for which a cancelled start may go on."""
_MAX_IDLE_MS: Final = 540_000
"""Milliseconds without a request after which a connection is closed; aiokafka's default."""
RETRY_BACKOFF_MS: Final = 100
RECORD_COMPRESSION: Final = {Compression.NONE: 0, Compression.GZIP: 1, Compression.LZ4: 3, Compression.ZSTD: 4}
"""Kafka's codes of the compression types."""


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the keyword arguments of any aiokafka client for these settings.

    Raises:
        OperatorError: a certificate, a key or a password cannot be read.
    """
    oauth = settings.sasl_mechanism is SaslMechanism.OAUTHBEARER and "SASL" in settings.security_protocol
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "security_protocol": settings.security_protocol.value,
        "ssl_context": _ssl_context(settings),
        "sasl_mechanism": settings.sasl_mechanism.value,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.password,
        "sasl_oauth_token_provider": OAuthToken(settings) if oauth else None,
    }


async def close_client(client: AIOKafkaClient) -> None:
    """Close a client; give up after `STOP_S` if Kafka does not answer."""
    try:
        async with asyncio.timeout(STOP_S):
            await client.close()
    except TimeoutError:
        log.warning("Kafka did not answer while a client was closed")


def new_client(settings: KafkaSettings, client_id: str, **more: Any) -> AIOKafkaClient:
    """Return a client that is not started, for requests and cluster metadata; `more` are options of aiokafka."""
    options = client_options(settings, client_id)
    client = AIOKafkaClient(**options, **more)
    _adapt(client, options)
    return client


async def connect_client(settings: KafkaSettings, client_id: str) -> AIOKafkaClient:
    """Return a client that is connected to Kafka.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    client = new_client(settings, client_id)
    try:
        await start_client(settings, client.bootstrap())
    except BaseException:
        await client.close()
        raise
    return client


def new_consumer(settings: KafkaSettings, client_id: str, **options: Any) -> AIOKafkaConsumer:
    """Return a consumer that is not started; `options` are options of aiokafka."""
    login = client_options(settings, client_id)
    consumer = AIOKafkaConsumer(
        **login, enable_auto_commit=False, fetch_max_wait_ms=settings.fetch_max_wait_ms, **options
    )
    _adapt(consumer._client, login)  # pyright: ignore[reportPrivateUsage]
    return consumer


def new_transactional_producer(settings: KafkaSettings, client_id: str, transactional_id: str) -> AIOKafkaProducer:
    """Return a transactional producer that is not started. Its start fences other producers with the same id."""
    login = client_options(settings, client_id)
    producer = AIOKafkaProducer(
        **login,
        transactional_id=transactional_id,
        max_request_size=settings.max_record_bytes,
        compression_type=None if settings.compression is Compression.NONE else settings.compression.value,
    )
    _adapt(producer.client, login)
    return producer


class _Connections(dict[Any, Any]):
    """Connections of one client; metadata requests over them never create a topic.

    A new connection proves that Kafka is reachable (`OUTAGE`).
    """

    def __setitem__(self, key: Any, connection: Any) -> None:
        connection.send = partial(_send, connection.send)
        OUTAGE.answered(f"{connection.host}:{connection.port}")
        super().__setitem__(key, connection)


def _send(send: Callable[..., Any], request: Any, *words: Any, **more: Any) -> Any:
    if isinstance(request, MetadataRequest):
        request._allow_auto_topic_creation = False  # pyright: ignore[reportPrivateUsage]
    return send(request, *words, **more)


def _adapt(client: AIOKafkaClient, options: dict[str, Any]) -> None:
    """Make a client report outages, and keep its metadata requests from creating topics.

    A broker with automatic topic creation would otherwise recreate a topic that was just deleted. aiokafka has no
    setting for this. Only our own clients are changed, since other code in the process may use aiokafka, too. A client
    that authenticates by SASL gets connections that are replaced before their sessions end.
    """
    client._conns = _Connections()  # pyright: ignore[reportPrivateUsage]
    connect: Any = client._get_conn  # pyright: ignore[reportPrivateUsage]
    if "SASL" in options["security_protocol"]:
        connect = _use_sessions(client, options)

    async def watched(node_id: Any, **more: Any) -> Any:
        connection = await connect(node_id, **more)
        if connection is None:
            broker = client.cluster.broker_metadata(node_id)
            OUTAGE.failed(f"{broker.host}:{broker.port}" if broker else "")
        return connection

    client._get_conn = watched  # pyright: ignore[reportPrivateUsage]


def _use_sessions(client: AIOKafkaClient, options: dict[str, Any]) -> Callable[..., Any]:
    """Make a client close its SASL connections when it is closed; return the function that opens connections."""
    connections = SaslConnections(client, {**_connection_options(options), "max_idle_ms": _MAX_IDLE_MS})
    close = client.close

    async def close_all() -> None:
        await connections.close()
        await close()

    client.close = close_all
    return connections.get


def _connection_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("bootstrap_servers", "retry_backoff_ms")}


@asynccontextmanager
async def open_admin(settings: KafkaSettings, client_id: str = "infaas-admin") -> AsyncGenerator[AIOKafkaAdminClient]:
    """Open an admin client; close it when the context ends.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    login = client_options(settings, client_id)
    admin = AIOKafkaAdminClient(**login)
    _adapt(admin._client, login)  # pyright: ignore[reportPrivateUsage]
    try:
        await start_client(settings, admin.start())
        yield admin
    finally:
        await admin.close()


async def start_client(settings: KafkaSettings, start: Coroutine[Any, Any, T]) -> T:
    """Await the start of a client and return its result; explain a failure.

    Raises:
        OperatorError: Kafka did not answer within the request timeout, or refused the credentials.
    """
    try:
        async with asyncio.timeout(settings.request_timeout_ms / 1000):
            return await _uninterrupted(start)
    except (KafkaError, TimeoutError, OSError) as error:
        if await _refuses_credentials(settings):
            raise OperatorError(
                f"Kafka at {settings.bootstrap} refused the credentials; check {_credentials(settings)}"
            ) from error
        reason = await _why_unreachable(settings) or f"{type(error).__name__}: {error}"
        raise OperatorError(
            f"cannot reach Kafka at {settings.bootstrap} ({reason}); is it running? Check {ENV} and "
            f"{PREFIX}SECURITY_PROTOCOL"
        ) from error


async def _uninterrupted(start: Coroutine[Any, Any, T]) -> T:
    """Return the result of a start. If cancelled, let the start end within `_LAST_S` before the caller closes it.

    aiokafka forgets its first connection, and leaves it open, if its start is cancelled.
    """
    starting = asyncio.create_task(start, name="start of a Kafka client")
    try:
        return await asyncio.shield(starting)
    finally:
        if not starting.done():
            await asyncio.wait([starting], timeout=_LAST_S)
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()  # else asyncio logs it as never retrieved


async def _why_unreachable(settings: KafkaSettings) -> str:
    """Return why brokers refuse connections, one reason per broker; empty if connections can be opened."""
    reasons: list[str] = []
    for address in settings.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:  # TimeoutError is a subclass
            reasons.append(why_not_connected(host, port, error))
        else:
            writer.close()
    return "; ".join(reasons)


async def _refuses_credentials(settings: KafkaSettings) -> bool:
    """Return true if Kafka refuses the credentials.

    This opens another connection: a client that starts only logs the refusal, and does not raise it.
    """
    if "SASL" not in settings.security_protocol:
        return False
    try:
        await check_connection(
            settings, settings.bootstrap.split(",")[0], "infaas-check", settings.request_timeout_ms / 1000
        )
    except (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError):
        return True
    except (KafkaError, OSError):
        pass
    return False


async def check_connection(settings: KafkaSettings, address: str, client_id: str, timeout_s: float) -> None:
    """Open a connection to a broker, authenticate, and close it.

    Raises:
        KafkaError: the broker refuses.
        OSError: the broker cannot be reached, or does not answer in time.
    """
    host, _, port = address.strip().rpartition(":")
    async with asyncio.timeout(timeout_s):
        connection = await create_conn(host, int(port), **_connection_options(client_options(settings, client_id)))
    connection.close()


def _credentials(settings: KafkaSettings) -> str:
    """Return the names of the settings that hold the credentials, never their values."""
    oauth = settings.sasl_mechanism is SaslMechanism.OAUTHBEARER
    names = ("SASL_TOKEN", "SASL_TOKEN_FILE") if oauth else ("SASL_USERNAME", "SASL_PASSWORD")
    return f"{PREFIX}SASL_MECHANISM ({settings.sasl_mechanism}), {PREFIX}{names[0]} and {PREFIX}{names[1]}"


class OAuthToken(AbstractTokenProvider):
    """Provider of OAUTHBEARER tokens: a fixed token, or a file that is read at each authentication."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._fixed = settings.sasl_token
        self._file = settings.sasl_token_file

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - aiokafka's own types are wrong
        """Return the token to authenticate with now."""
        if self._file is None:
            return self._fixed.get_secret_value() if self._fixed else ""
        return (await asyncio.to_thread(self._file.read_text)).strip()


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    if not settings.encrypted:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.check_hostname = settings.tls_check_hostname
        if settings.tls_certificate is not None:
            secret = settings.tls_key_password
            # An empty password instead of None: with None OpenSSL would prompt for it on the terminal.
            context.load_cert_chain(
                settings.tls_certificate, settings.tls_key, secret.get_secret_value() if secret else ""
            )
    except (OSError, ssl.SSLError) as error:
        paths = (settings.tls_ca, settings.tls_certificate, settings.tls_key)
        names = ", ".join(str(path) for path in paths if path is not None)
        raise OperatorError(f"cannot use the TLS files {names}: {error}") from error
    return context
