"""Faults of a running system: a table, each entry a coroutine that ends when the fault does."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from process.subprocesses import running
from schemas import headers as h
from schemas.topics import task_topic
from tests.chaos.kafka_cluster import KafkaCluster
from tests.chaos.ledger import OK, Ledger
from tests.chaos.poison import CRASHES, FAILS, HANGS, LEAKS, odd_records, poisoned_query, send_odd_key
from tests.chaos.shifted_clock import shifted_clock
from tests.chaos.site import MissedTargetError, Site, kill, send, wait_until_stopped, with_children
from tests.chaos.traffic import TASK

_ODD_CLIENT: Final = "odd records"
_BALLAST_BYTES: Final = 1024 * 1024
_GATEWAY_UPLOADS: Final = 60


class Arena(msgspec.Struct, kw_only=True):
    """System that faults act on, and their durations."""

    site: Site
    ledger: Ledger
    rng: random.Random
    run: str
    stop_s: float
    """Seconds for which a process is stopped."""
    outage_s: float
    """Seconds for which Kafka or Postgres is stopped."""
    cluster: KafkaCluster | None = None
    small_disk: bool = False
    """True if the system's folder is a file system of its own that may be filled."""

    @property
    def kafka(self) -> str:
        """Address of Kafka."""
        return self.site.system.kafka.bootstrap


class FaultScenario(msgspec.Struct, frozen=True):
    """Kind of fault."""

    name: str
    inflict: Callable[[Arena], Awaitable[None]]
    is_possible: Callable[[Arena], str] = lambda _arena: ""
    """Reason for which it is impossible here; empty if it is possible."""
    missed: Callable[[Arena], str] = lambda _arena: ""
    """Evidence, after all queries are settled, that it missed its target; empty if there is none."""


async def kill_some(kinds: tuple[str, ...], counts: int, arena: Arena) -> None:
    """SIGKILL `counts` processes of each kind, all at once."""
    victims = [p for kind in kinds for p in await arena.site.wait_for(kind, counts)]
    await kill(victims)


async def freeze(kinds: tuple[str, ...], how_long: Callable[[Arena], float], arena: Arena) -> None:
    """SIGSTOP a process of each kind for a while. A process that was replaced meanwhile is not resumed."""
    found = [arena.rng.choice(await arena.site.wait_for(kind)) for kind in kinds]
    victims = with_children(found) if "postgres" in kinds else found
    send(victims, signal.SIGSTOP)
    try:
        await wait_until_stopped(found)
        await asyncio.sleep(how_long(arena))
    finally:
        send(victims, signal.SIGCONT)


async def fill_disk(arena: Arena) -> None:
    """Fill the file system of the log, the tables and the artifacts for a while."""
    ballast = arena.site.system.home / "ballast"
    try:
        await asyncio.to_thread(_fill, ballast)
        if (free := disk_usage(ballast.parent).free) >= _BALLAST_BYTES:
            raise MissedTargetError(f"{free} bytes of the disk are free")
        await asyncio.sleep(arena.stop_s)
    finally:
        ballast.unlink(missing_ok=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as out:
        try:
            while out.write(bytes(_BALLAST_BYTES)):
                pass
        except OSError:  # the disk is full, as intended
            pass


async def poison_model(values: Iterable[float], arena: Arena) -> None:
    """Send queries on which the model crashes, hangs, leaks or raises, among normal queries."""
    async with AIOKafkaProducer(bootstrap_servers=arena.kafka, acks="all") as producer:
        for number, value in enumerate(values):
            body, headers = poisoned_query(value)
            query_id = f"{arena.run}-kafka-poison-{time.monotonic_ns()}-{number}"
            arena.ledger.ask(_poison_client(value), query_id, time.monotonic())
            await producer.send_and_wait(task_topic(TASK), body, headers=[(h.ID, query_id.encode()), *headers])


def _poison_client(value: float) -> str:
    return f"poison {value:g}"


def _answered(value: float, arena: Arena) -> str:
    """Return evidence that the model answered a query on which it should have failed."""
    count = arena.ledger.outcomes.get(_poison_client(value), Counter())[OK]
    return f"the model answered {count} queries on which it should have failed" if count else ""


async def poison_records(arena: Arena) -> None:
    """Write 200 malformed records to the task's topic."""
    largest = 64 * 2**20
    producer = AIOKafkaProducer(bootstrap_servers=arena.kafka, acks="all", max_request_size=largest)
    run = f"{arena.run}-{time.monotonic_ns()}"
    async with producer:
        for query_id, value, headers in odd_records(run, arena.rng.randrange(2**32)):
            try:
                await producer.send_and_wait(task_topic(TASK), value, headers=headers, key=b"odd")
            except KafkaError:
                continue  # Kafka itself rejects such a record
            if query_id:
                arena.ledger.ask(_ODD_CLIENT, query_id, time.monotonic())
        query_id = f"{run}-odd-key"
        await send_odd_key(producer, query_id, task_topic(TASK))
        arena.ledger.ask(_ODD_CLIENT, query_id, time.monotonic())


async def shift_clocks(arena: Arena) -> None:
    """Run additional selectors and a worker whose clocks are 5 s ahead or behind, for a while."""
    home = arena.site.system.home
    shared = {
        "INFAAS_HOME": str(home),
        "INFAAS_KAFKA": arena.kafka,
        "INFAAS_POSTGRES": arena.site.system.postgres,
        **(shifted_clock() or {}),
        "INFAAS_SELECTOR_METRICS_PORT": "0",
        "INFAAS_WORKERS_METRICS_PORT": "0",
    }
    names = {"INFAAS_SELECTOR_INSTANCE_ID": "selector-shifted", "INFAAS_WORKERS_NAME": "cpu-shifted"}
    ahead = {**os.environ, **shared, **names, "FAKETIME": "+5s"}
    behind = {**os.environ, **shared, "INFAAS_SELECTOR_INSTANCE_ID": "selector-behind", "FAKETIME": "-5s"}
    logs = home / "logs"
    async with (
        running([sys.executable, "-m", "selector"], logs / "shifted-selector.log", env=ahead) as first,
        running([sys.executable, "-m", "workers"], logs / "shifted-worker.log", env=ahead) as second,
        running([sys.executable, "-m", "selector"], logs / "behind-selector.log", env=behind) as third,
    ):
        await asyncio.sleep(arena.stop_s)
        if codes := [process.returncode for process in (first, second, third) if process.returncode is not None]:
            raise MissedTargetError(f"services with other clocks ended unexpectedly, with codes {codes}")


async def slow_clients(arena: Arena) -> None:
    """Begin 60 uploads of 14 MB without completing them, then reset the connections."""
    gateway = urlsplit(arena.site.system.gateway)
    head = f"POST /v2/models/{TASK}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 14000000\r\n\r\n".encode()
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(_GATEWAY_UPLOADS):
            _reader, writer = await asyncio.open_connection(gateway.hostname, gateway.port)
            writers.append(writer)
            writer.write(head + bytes(10_000_000))
        await asyncio.sleep(arena.stop_s)
    finally:
        for writer in writers:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()


async def vanishing_clients(arena: Arena) -> None:
    """Start client programs with hundreds of queries in flight each, and SIGKILL them."""
    logs = arena.site.system.home / "logs"
    for number in range(3):
        command = [sys.executable, "-m", "tests.chaos.vanishing_client", arena.kafka]
        async with running(command, logs / f"vanishing-{number}.log", env=dict(os.environ)) as process:
            await asyncio.sleep(arena.stop_s / 4)
            if process.returncode is not None:
                raise MissedTargetError(f"a client ended unexpectedly, with code {process.returncode}")
            process.kill()


async def leave_leaderless(arena: Arena) -> None:
    """Stop one node of three for a while: partitions without a second replica have no leader."""
    assert arena.cluster is not None
    victim = arena.cluster.processes()[arena.rng.randrange(3)]
    send([victim], signal.SIGSTOP)
    try:
        await wait_until_stopped([victim])
        await asyncio.sleep(arena.outage_s)
    finally:
        send([victim], signal.SIGCONT)


def _only_alone(arena: Arena) -> str:
    return "Kafka has three nodes here" if arena.cluster is not None else ""


def _needs_cluster(arena: Arena) -> str:
    return "" if arena.cluster is not None else "needs --brokers 3"


def _needs_small_disk(arena: Arena) -> str:
    return "" if arena.small_disk else "needs a separate file system, which root can mount"


def _needs_faketime(_arena: Arena) -> str:
    return "" if shifted_clock() else "needs Debian's packages faketime and g++"


def _stop_s(arena: Arena) -> float:
    return arena.stop_s


def _outage_s(arena: Arena) -> float:
    return arena.outage_s


def _table() -> tuple[FaultScenario, ...]:
    each = ("selector", "worker", "gateway", "autoscaler")
    beside = ("jobs", "registrar")
    pairs = [("selector", "worker"), ("gateway", "selector"), ("worker", "autoscaler")]
    return (
        *(FaultScenario(f"SIGKILL of a {kind}", partial(kill_some, (kind,), 1)) for kind in (*each, *beside)),
        *(
            FaultScenario(f"SIGKILL of both {kind}s", partial(kill_some, (kind,), 2))
            for kind in each
            if kind != "gateway"
        ),
        *(FaultScenario(f"SIGKILL of a {a} and a {b}", partial(kill_some, (a, b), 1)) for a, b in pairs),
        *(FaultScenario(f"SIGSTOP of a {kind}", partial(freeze, (kind,), _stop_s)) for kind in each),
        FaultScenario("SIGKILL of Kafka", partial(kill_some, ("kafka",), 1), _only_alone),
        FaultScenario("SIGSTOP of Kafka", partial(freeze, ("kafka",), _outage_s), _only_alone),
        FaultScenario("SIGKILL of Postgres", partial(kill_some, ("postgres",), 1)),
        FaultScenario("SIGSTOP of Postgres", partial(freeze, ("postgres",), _outage_s)),
        FaultScenario("full disk", fill_disk, _needs_small_disk),
        FaultScenario("model crashes", partial(poison_model, (CRASHES,)), missed=partial(_answered, CRASHES)),
        FaultScenario("model hangs", partial(poison_model, (HANGS,)), missed=partial(_answered, HANGS)),
        FaultScenario("model leaks", partial(poison_model, (LEAKS,) * 4)),
        FaultScenario("model raises", partial(poison_model, (FAILS,) * 3), missed=partial(_answered, FAILS)),
        FaultScenario("200 odd records", poison_records),
        FaultScenario("clocks 5 s off", shift_clocks, _needs_faketime),
        FaultScenario("60 unfinished uploads", slow_clients),
        FaultScenario("vanishing clients", vanishing_clients),
        FaultScenario("a leaderless partition", leave_leaderless, _needs_cluster),
    )


FAULTS: Final = _table()
