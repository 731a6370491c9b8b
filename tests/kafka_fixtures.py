"""Fixtures for Kafka: one broker in a session. Tests use Apache Kafka, except tests of the embedded broker."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from broker.kafka.servers.apache import ApacheKafka, changed_properties, server_properties
from broker.kafka.servers.embedded import EmbeddedBroker
from broker.kafka.servers.jars import cache_dir, fetch_jars
from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError
from tests.java_classes import use_class_archive


class _Broker(Protocol):
    @property
    def settings(self) -> KafkaSettings: ...


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[_Broker]]) -> Generator[KafkaSettings]:
    """Run a broker in a thread of its own, because its process must outlive the event loop of a single test."""
    ready, started = threading.Event(), list[KafkaSettings]()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    failed: list[BaseException] = []

    async def serve() -> None:
        async with make() as broker:
            started.append(broker.settings)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread below
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="broker")
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        if not failed:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    """Apache Kafka shared by all tests; each test must use topics and groups of its own.

    Tests are skipped, with the reason, if it cannot be started; in CI a skip is a failure.
    """
    folder = tmp_path_factory.mktemp("kafka")
    need_apache()
    with served(lambda: ApacheKafka(folder)) as settings:
        yield settings


@pytest.fixture(scope="module")
def quick_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    """Apache Kafka that checks retention, and deletes files, ten times a second."""
    folder = tmp_path_factory.mktemp("quick-kafka")
    need_apache()
    with served(lambda: ApacheKafka(folder, properties=_quick)) as settings:
        yield settings


def _quick(data: Path, port: int, controller_port: int) -> str:
    names = ("log.retention.check.interval.ms", "log.initial.task.delay.ms", "file.delete.delay.ms")
    return changed_properties(server_properties(data, port, controller_port), dict.fromkeys(names, "100"))


@pytest.fixture(scope="session")
def embedded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    """Embedded broker, the substitute where Apache Kafka is not available."""
    folder = tmp_path_factory.mktemp("embedded-kafka")
    with served(lambda: EmbeddedBroker(folder)) as settings:
        yield settings


def need_apache() -> Path:
    """Return the folder of Kafka's jars; skip the test if the jars or Java are missing and cannot be fetched."""
    try:
        jars = asyncio.run(fetch_jars(cache_dir()))
        use_class_archive(jars)
    except OperatorError as error:
        pytest.skip(str(error))
    return jars
