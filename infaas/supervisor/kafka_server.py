"""Which Kafka a system on one machine runs on, chosen before anything is started, and started.

Apache Kafka wherever it can be had: it needs Java, from PATH or PyPI, and its jars, which the first start fetches. Only
where that fails, and nobody named a broker, does the embedded one stand in; people are told why, and what it lacks.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Final, TypeAlias

import msgspec

from broker.servers.apache import ApacheKafka, find_java
from broker.servers.embedded import LIMITS, EmbeddedBroker, find_binary
from broker.servers.jars import JarProgress, cache_dir, fetch_jars, jars_folder
from broker.settings import KafkaSettings
from infaas.supervisor.options import KafkaKind, UpOptions, uses_external_kafka
from schemas.errors import OperatorError

FETCH_WAIT_ENV: Final = "INFAAS_KAFKA_FETCH_MAX_WAIT_MS"

FetchingJars: TypeAlias = Callable[[], AbstractContextManager[JarProgress]]
"""Opened while Kafka's jars are fetched, to show how far that is."""


class KafkaChoice(msgspec.Struct, frozen=True):
    """What the system runs on."""

    kind: KafkaKind
    """Never `auto`."""
    reason: str = ""
    """Why the embedded broker stands in for Apache Kafka; empty if it does not."""


async def choose_kafka(options: UpOptions, tell: Callable[[str], None], fetching: FetchingJars) -> KafkaChoice:
    """Settle on a Kafka, and fetch what it needs.

    Raises:
        OperatorError: the one asked for cannot be had, or cannot do what is asked of it.
    """
    if uses_external_kafka(options):
        return KafkaChoice(KafkaKind.EXTERNAL)
    if options.kafka is KafkaKind.EMBEDDED:
        _check_embedded(options)
        return KafkaChoice(KafkaKind.EMBEDDED)
    try:
        await _have_apache(tell, fetching)
    except OperatorError as error:
        if options.kafka is KafkaKind.APACHE:
            raise
        _check_embedded(options, reason=str(error))
        tell(f"Apache Kafka cannot be had: {error}")
        tell(f"the embedded broker stands in: {LIMITS}")
        return KafkaChoice(KafkaKind.EMBEDDED, str(error))
    return KafkaChoice(KafkaKind.APACHE)


async def start_kafka(choice: KafkaChoice, options: UpOptions, stack: AsyncExitStack) -> KafkaSettings:
    """Start what was chosen, to run as long as the stack; returns how to reach it.

    Raises:
        OperatorError: it does not start.
    """
    if choice.kind is KafkaKind.EXTERNAL:
        return KafkaSettings()
    kind = ApacheKafka if choice.kind is KafkaKind.APACHE else EmbeddedBroker
    server = await stack.enter_async_context(kind(options.home / "kafka", options.kafka_port))
    if FETCH_WAIT_ENV in os.environ:
        return KafkaSettings(bootstrap=server.bootstrap)
    return server.settings


async def _have_apache(tell: Callable[[str], None], fetching: FetchingJars) -> None:
    await asyncio.to_thread(find_java)
    cache = cache_dir()
    if not jars_folder(cache).is_dir():
        tell(f"fetching Apache Kafka (43 MB) into {cache}, this once")
        with fetching() as progress:
            await fetch_jars(cache, progress)


def _check_embedded(options: UpOptions, reason: str = "") -> None:
    """Have the embedded broker be there and be enough.

    Raises:
        OperatorError: it is not.
    """
    because = f"Apache Kafka cannot be had: {reason}; and " if reason else ""
    if options.selectors > 1:
        instead = "mend that" if reason else "use --kafka apache"
        raise OperatorError(
            f"{because}the embedded broker serves one selector, not {options.selectors}: {instead}, or --selectors 1"
        )
    try:
        find_binary()
    except OperatorError as error:
        raise OperatorError(f"{because}{error}") from error
