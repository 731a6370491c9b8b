"""Fixtures for Kafka: one broker a process. Tests use Apache Kafka, except tests of the embedded broker."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.kafka.servers.apache import ApacheKafka, changed_properties, server_properties
from broker.kafka.servers.embedded import EmbeddedBroker
from broker.kafka.servers.jars import cache_dir, fetch_jars
from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError
from tests.java_classes import use_class_archive
from tests.servers import served, servers, starts


@contextmanager
def _apache(folder: Path) -> Generator[KafkaSettings]:
    prepare_apache()
    with served(lambda: ApacheKafka(folder)) as broker:
        yield broker.settings


@contextmanager
def _quick(folder: Path) -> Generator[KafkaSettings]:
    prepare_apache()
    with served(lambda: ApacheKafka(folder, properties=_quick_properties)) as broker:
        yield broker.settings


def _quick_properties(data: Path, port: int, controller_port: int) -> str:
    names = ("log.retention.check.interval.ms", "log.initial.task.delay.ms", "file.delete.delay.ms")
    return changed_properties(server_properties(data, port, controller_port), dict.fromkeys(names, "100"))


@contextmanager
def _embedded(folder: Path) -> Generator[KafkaSettings]:
    with served(lambda: EmbeddedBroker(folder)) as broker:
        yield broker.settings


starts.update({"kafka": _apache, "quick-kafka": _quick, "embedded-kafka": _embedded})


def prepare_apache() -> Path:
    """Fetch Kafka's jars if they are missing, and return their folder.

    Raises:
        OperatorError: the jars or Java are missing and cannot be fetched.
    """
    jars = asyncio.run(fetch_jars(cache_dir()))
    use_class_archive(jars)
    return jars


def need_apache() -> Path:
    """Return the folder of Kafka's jars; skip the test if the jars or Java are missing and cannot be fetched."""
    try:
        return prepare_apache()
    except OperatorError as error:
        pytest.skip(str(error))


def started(request: pytest.FixtureRequest, name: str) -> Any:
    """Return how to reach a server of this run; skip the test, with the reason, if it cannot be started."""
    try:
        return servers(request.config).get(name)
    except OperatorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> KafkaSettings:
    """Apache Kafka shared by all tests; each test must use topics and groups of its own."""
    return started(request, "kafka")


@pytest.fixture(scope="session")
def quick_kafka(request: pytest.FixtureRequest) -> KafkaSettings:
    """Apache Kafka that checks retention, and deletes files, ten times a second."""
    return started(request, "quick-kafka")


@pytest.fixture(scope="session")
def embedded_kafka(request: pytest.FixtureRequest) -> KafkaSettings:
    """Embedded broker, the substitute where Apache Kafka is not available."""
    return started(request, "embedded-kafka")
