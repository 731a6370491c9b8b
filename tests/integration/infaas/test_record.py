"""Tests of `infaas record` on a real log; the unit tests cover the reading of single records."""

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from broker.kafka.settings import ENV, KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_task_topics
from broker.producing.producer import Producer
from infaas.cli.output import EXIT_SETUP
from infaas.cli.record import Recording, read_log
from schemas import headers as h
from schemas.query import Mode
from schemas.topics import LANES, offline_topic, task_topic
from simulator.trace import QueryKind, read_trace
from tests.doc_commands import block, run_commands
from tests.load import Pace
from tests.processes import environment, login_of
from tests.unit.infaas.shell import Shell
from tests.waiting import until

NEEDS = {h.LATENCY_MS: "50", h.MIN_ACCURACY: "0.9", h.TENANT: "acme"}


async def send(kafka: KafkaSettings, *messages: tuple[str, dict[str, str]]) -> None:
    async with Producer(kafka, "test") as producer:
        for topic, fields in messages:
            headers = [(name, text.encode()) for name, text in fields.items()]
            await producer.send_and_wait(topic, b"the payload", headers=headers)


async def prepared(kafka: KafkaSettings, task: str) -> None:
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, 2)


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
def test_record_writes_queries_of_log(
    kafka: KafkaSettings, shell: Shell, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV, kafka.bootstrap)
    task, path = f"recorded-{suffix.partition('.')[0]}", tmp_path / f"trace.{suffix}"
    offline = {h.ID: "moved", h.MODE: Mode.OFFLINE}
    messages = [
        *((task_topic(task), {h.ID: str(number)} | NEEDS) for number in range(3)),
        (task_topic(task), offline),
        (offline_topic(task), offline | {h.TASK: task}),
        (LANES, offline | {h.TASK: task}),
        (offline_topic(task), {h.ID: "offline", h.BATCH: "8"}),
        (task_topic(task), {h.ID: "unreadable", h.LATENCY_MS: "soon"}),
    ]
    asyncio.run(prepared(kafka, task))
    since = time.strftime("%Y-%m-%dT%H:%M:%S")
    asyncio.run(send(kafka, *messages))
    shown = shell("record", str(path), "--since", since, "--json")
    assert shown.exit_code == 0, shown.stderr
    assert msgspec.json.decode(shown.stdout)["unreadable"] >= 1
    trace = read_trace(path)
    found = [kind for kind in (trace.kinds[number] for number in trace.kind) if kind.task == task]
    assert found == [
        *[QueryKind(task=task, latency_ms=50, min_accuracy=0.9, tenant="acme")] * 3,
        QueryKind(task=task, mode=Mode.OFFLINE),
        QueryKind(task=task, mode=Mode.OFFLINE, batch=8),
    ]
    assert trace.time_s[0] == 0
    assert b"payload" not in path.read_bytes()


@pytest.mark.needs_minutes
async def test_documented_commands_record_a_running_load(kafka: KafkaSettings, tmp_path: Path) -> None:
    """The commands of `docs/traces.md`, for seconds instead of hours."""
    await prepared(kafka, "recorded-as-documented")
    env = environment({"INFAAS_HOME": str(tmp_path), **login_of(kafka)})

    async def ask() -> None:
        async with Producer(kafka, "test") as producer:
            async for number in Pace(20):
                headers = [(h.ID, b"%d" % number)]
                await producer.send_and_wait(task_topic("recorded-as-documented"), b"", headers=headers)

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask())
        shorter = {"--for 2h": "--for 3s", "--since 5m --for 10m": "--since 5m --for 301s"}
        await run_commands(block("docs/traces.md#0"), tmp_path, env, shorter)
        asking.cancel()
    for name in ("monday.csv.gz", "burst.csv", "rest.parquet"):
        assert QueryKind(task="recorded-as-documented") in read_trace(tmp_path / name).kinds


async def test_read_log_follows_until_it_is_interrupted(kafka: KafkaSettings) -> None:
    task, now_s = "followed", time.time()
    await prepared(kafka, task)
    recording = Recording(now_s * 1e3)
    reading = asyncio.create_task(read_log(kafka, recording, now_s, now_s + 3600))
    await send(kafka, (task_topic(task), {h.ID: "1"}))
    await until(lambda: QueryKind(task=task) in recording.trace().kinds)
    os.kill(os.getpid(), signal.SIGINT)
    await reading


def test_record_of_no_query_writes_no_file(
    kafka: KafkaSettings, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV, kafka.bootstrap)
    asyncio.run(prepared(kafka, "recorded-never"))
    shown = shell("record", str(tmp_path / "trace.csv"), "--since", "2020-01-01", "--for", "1m")
    assert (shown.exit_code, "no query arrived" in shown.stderr) == (EXIT_SETUP, True), shown.stderr
    assert not (tmp_path / "trace.csv").exists()
