"""Choice and start of Kafka for a system on one machine.

Apache Kafka is preferred. It needs Java, from PATH or PyPI, and its jars, which the first start downloads. If Apache
Kafka cannot be used and the operator named no broker, the embedded broker is used instead; the operator is shown the
reason and the limits of the embedded broker.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Final, TypeAlias

import msgspec

from broker.kafka.servers.apache import ApacheKafka, GuardedKafka, find_java
from broker.kafka.servers.embedded import LIMITS, EmbeddedBroker, find_binary
from broker.kafka.servers.jars import JarProgress, cache_dir, fetch_jars, jars_folder
from broker.kafka.settings import KafkaSettings
from infaas.up.options import UpOptions, uses_external_kafka
from infaas.up.processes import Server
from infaas.up.state import KafkaKind
from schemas.errors import OperatorError

FETCH_WAIT_ENV: Final = "INFAAS_KAFKA_FETCH_MAX_WAIT_MS"
_LOSS: Final = "the embedded broker stores nothing, so its queries and results are lost; its topics are created again"

FetchingJars: TypeAlias = Callable[[], AbstractContextManager[JarProgress]]
"""Factory of a context that is open during the download of Kafka's jars; it yields a progress callback."""


class KafkaChoice(msgspec.Struct, frozen=True):
    """Chosen Kafka and the reason for the choice."""

    kind: KafkaKind
    """Chosen kind, never `auto`."""
    reason: str = ""
    """Reason why the embedded broker is used instead of Apache Kafka; empty if it is not."""


async def choose_kafka(options: UpOptions, announce: Callable[[str], None], fetching: FetchingJars) -> KafkaChoice:
    """Choose a Kafka and download its jars if necessary.

    Raises:
        OperatorError: the requested Kafka is not available, or does not support the requested options.
    """
    if uses_external_kafka(options):
        return KafkaChoice(KafkaKind.EXTERNAL)
    if options.kafka is KafkaKind.EMBEDDED:
        _check_embedded(options)
        return KafkaChoice(KafkaKind.EMBEDDED)
    try:
        await _ensure_apache(announce, fetching)
    except OperatorError as error:
        if options.kafka is KafkaKind.APACHE:
            raise
        _check_embedded(options, reason=str(error))
        announce(f"Apache Kafka is not available: {error}")
        announce(f"the embedded broker is used instead: {LIMITS}")
        return KafkaChoice(KafkaKind.EMBEDDED, str(error))
    return KafkaChoice(KafkaKind.APACHE)


async def start_kafka(
    choice: KafkaChoice, options: UpOptions, announce: Callable[[str], None], stack: AsyncExitStack
) -> tuple[KafkaSettings, Server | None]:
    """Start the chosen Kafka; it runs until the stack is closed.

    Returns:
        The settings to reach Kafka, and the supervised server; None instead of a server for an external Kafka.

    Raises:
        OperatorError: Kafka does not start.
    """
    if choice.kind is KafkaKind.EXTERNAL:
        return KafkaSettings(), None
    embedded = choice.kind is KafkaKind.EMBEDDED
    if embedded and options.auth:
        announce("the embedded broker does not support passwords: every user of this machine can use it")
    kind = EmbeddedBroker if embedded else GuardedKafka if options.auth else ApacheKafka
    broker = await stack.enter_async_context(kind(options.home / "kafka", options.kafka_port))
    server = Server("kafka", broker.bootstrap, broker, announce, loss=_LOSS if embedded else "")
    if embedded and FETCH_WAIT_ENV in os.environ:
        return KafkaSettings(bootstrap=broker.bootstrap), server
    return broker.settings, server


async def _ensure_apache(announce: Callable[[str], None], fetching: FetchingJars) -> None:
    await asyncio.to_thread(find_java)
    cache = cache_dir()
    if not jars_folder(cache).is_dir():
        announce(f"downloading Apache Kafka (43 MB) into {cache}, only once")
        with fetching() as progress:
            await fetch_jars(cache, progress)


def _check_embedded(options: UpOptions, reason: str = "") -> None:
    because = f"Apache Kafka is not available: {reason}; and " if reason else ""
    if options.selectors > 1:
        instead = "fix that" if reason else "use --kafka apache"
        raise OperatorError(
            f"{because}the embedded broker serves one selector, not {options.selectors}: {instead}, or --selectors 1"
        )
    try:
        find_binary()
    except OperatorError as error:
        raise OperatorError(f"{because}{error}") from error
