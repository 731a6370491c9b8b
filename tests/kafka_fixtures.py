"""Fixtures: running Kafka brokers, one of each kind per session."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

import pytest

from broker.apache import ApacheKafka, cache_dir, fetch_jars, find_java
from broker.embedded import EmbeddedBroker
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
def embedded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    folder = tmp_path_factory.mktemp("embedded-kafka")
    with served(lambda: EmbeddedBroker(folder)) as settings:
        yield settings


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    """Skipped, with what is missing, only where it cannot be started; CI makes a failure of that."""
    folder = tmp_path_factory.mktemp("apache-kafka")
    need_apache()
    with served(lambda: ApacheKafka(folder)) as settings:
        yield settings


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache)])
def kafka(request: pytest.FixtureRequest) -> KafkaSettings:
    settings: KafkaSettings = request.getfixturevalue(f"{request.param}_kafka")
    return settings


def need_apache() -> None:
    """Skip the test where Java or Kafka's jars are missing and cannot be had."""
    try:
        find_java()
        asyncio.run(fetch_jars(cache_dir()))
    except OperatorError as error:
        pytest.skip(str(error))
