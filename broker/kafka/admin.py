"""Administration of Kafka by confluent-kafka, for requests that aiokafka's published admin client lacks.

Its client has threads of its own, which end with the context of `open_librdkafka_admin`; so it is opened for some
requests only. A request returns futures, which `answered` awaits. Its deadline is the request timeout of the settings.
The client library never uses it: its distribution does not depend on confluent-kafka.

Single configuration values of topics are read and set; all others, which somebody else may have set, are kept.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from broker.kafka.client import OAuthToken
from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings, SaslMechanism
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_TOKEN_S: Final = 600.0
"""Seconds for which a token is declared valid; the command ends long before."""
_UNKNOWN_REQUEST: Final = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)
_UNKNOWN_PARTITION: Final = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
"""Refusals that librdkafka concludes from the metadata of the brokers."""
T = TypeVar("T")


class UnsupportedRequest(OperatorError):
    """Kafka does not support a request."""


class RefusedRequest(OperatorError):
    """Kafka refused a request.

    Attributes:
        code: Kafka's number of the error.
        reason: the broker's message.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"Kafka refused: {reason}")
        self.code = code
        self.reason = reason


@asynccontextmanager
async def open_librdkafka_admin(settings: KafkaSettings) -> AsyncGenerator[AdminClient]:
    """Open an admin client of librdkafka; close it when the context ends.

    Raises:
        OperatorError: Kafka cannot be reached, or refuses the credentials.
    """
    await ping(settings)  # librdkafka would retry without a message until its timeout
    admin = await asyncio.to_thread(AdminClient, await _options(settings))
    try:
        await asyncio.to_thread(admin.poll, 0)  # passes the token to librdkafka, if there is one
        yield admin
    finally:
        await asyncio.to_thread(admin.__exit__, None, None, None)


async def answered(future: Future[T]) -> T:
    """Wait for the answer to a request.

    Raises:
        UnsupportedRequest: this Kafka does not support the request.
        RefusedRequest: Kafka refuses the request.
        OperatorError: Kafka does not answer.
    """
    try:
        return await asyncio.wrap_future(future)
    except KafkaException as error:
        problem: KafkaError = error.args[0]
        code, reason = int(problem.code()), problem.str()
        if code in _UNKNOWN_REQUEST:
            raise UnsupportedRequest(f"this Kafka does not support the request: {reason}") from None
        if code < 0 and code not in _UNKNOWN_PARTITION:  # an error of librdkafka, not of the broker
            raise OperatorError(f"Kafka does not answer ({reason}); run the command again to resume") from None
        raise RefusedRequest(code, reason) from None


async def _options(settings: KafkaSettings) -> dict[str, Any]:
    timeout_ms = settings.request_timeout_ms
    found: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": "infaas-admin",
        "security.protocol": settings.security_protocol.value,
        "socket.timeout.ms": timeout_ms,
        "log_level": 2,
    }
    if "SASL" in settings.security_protocol:
        found["sasl.mechanism"] = settings.sasl_mechanism.value
        if settings.sasl_mechanism is SaslMechanism.OAUTHBEARER:
            token = await OAuthToken(settings).token()

            def give_token(_config: str) -> tuple[str, float]:
                return token, time.time() + _TOKEN_S

            found["oauth_cb"] = give_token
        else:
            found |= {"sasl.username": settings.sasl_username, "sasl.password": settings.password}
    if settings.encrypted:
        found |= _tls_options(settings)
    return found


def _tls_options(settings: KafkaSettings) -> dict[str, str]:
    secret = settings.tls_key_password
    found = {
        "ssl.ca.location": str(settings.tls_ca) if settings.tls_ca else "probe",
        "ssl.endpoint.identification.algorithm": "https" if settings.tls_check_hostname else "none",
    }
    if settings.tls_certificate is not None:
        found |= {"ssl.certificate.location": str(settings.tls_certificate), "ssl.key.location": str(settings.tls_key)}
        if secret is not None:
            found["ssl.key.password"] = secret.get_secret_value()
    return found


async def read_configs(admin: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """Read the configuration of topics. A topic whose configuration may not be read is absent, and logged.

    Raises:
        OperatorError: Kafka does not answer.
    """
    found = dict[str, dict[str, str | None]]()
    for resource, future in admin.describe_configs([ConfigResource(ResourceType.TOPIC, t) for t in topics]).items():
        try:
            entries: dict[str, ConfigEntry] = await answered(future)
        except RefusedRequest as error:
            log.warning("the configuration of %s is unknown: %s", resource.name, error.reason)
        else:
            found[resource.name] = {name: entry.value for name, entry in entries.items()}
    return found


async def set_configs(admin: AdminClient, configs: Mapping[str, Mapping[str, str]]) -> None:
    """Set these configuration values by topic (KIP-339). Refusals of the broker are logged.

    Raises:
        OperatorError: Kafka does not answer.
    """
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[_set(*pair) for pair in values.items()])
        for topic, values in configs.items()
    ]
    for resource, future in admin.incremental_alter_configs(resources).items():
        try:
            await answered(future)
        except UnsupportedRequest:
            log.warning("this broker cannot change topic configurations: %d topics stay unchanged", len(configs))
            return
        except RefusedRequest as error:
            log.error("the configuration of %s was not corrected: %s", resource.name, error.reason)


def _set(name: str, value: str) -> ConfigEntry:
    return ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
