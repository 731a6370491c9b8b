"""Fixtures: Kafka, one broker a session. Tests run on Apache Kafka, but for the few that are about the embedded one."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from broker.servers.apache import ApacheKafka, find_java
from broker.servers.embedded import EmbeddedBroker
from broker.servers.jars import cache_dir, fetch_jars
from broker.settings import KafkaSettings
from schemas.errors import OperatorError


class _Broker(Protocol):
    @property
    def settings(self) -> KafkaSettings: ...


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[_Broker]]) -> Generator[KafkaSettings]:
    """Run a broker in a thread of its own: its process must outlive the event loop of a single test."""
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
    """One Apache Kafka for all tests, which name their topics and groups apart.

    Skipped, with what is missing, only where it cannot be started; CI makes a failure of that.
    """
    folder = tmp_path_factory.mktemp("kafka")
    need_apache()
    with served(lambda: ApacheKafka(folder)) as settings:
        yield settings


@pytest.fixture(scope="session")
def embedded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    """The broker that stands in where Apache Kafka cannot be had."""
    folder = tmp_path_factory.mktemp("embedded-kafka")
    with served(lambda: EmbeddedBroker(folder)) as settings:
        yield settings


def need_apache() -> Path:
    """Kafka's jars; the test is skipped where they, or Java, are missing and cannot be had."""
    try:
        find_java()
        return asyncio.run(fetch_jars(cache_dir()))
    except OperatorError as error:
        pytest.skip(str(error))
