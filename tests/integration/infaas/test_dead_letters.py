"""Tests of `infaas dead-letters`: listing, showing, replaying and dropping."""

import asyncio
import json
from uuid import uuid4

import pytest

from broker.dead_letters import publish_dead_letter
from broker.kafka_types import Record
from broker.producer import Producer
from broker.settings import ENV, KafkaSettings
from broker.topics import ensure_system_topics, ensure_task_topics
from infaas.cli.output import EXIT_SETUP
from schemas import headers as h
from schemas.topics import task_topic
from tests.unit.infaas.shell import Shell


@pytest.fixture
def task(kafka: KafkaSettings, connected: Shell, monkeypatch: pytest.MonkeyPatch) -> str:
    """Task with three dead letters, of the queries `q-0` to `q-2`."""
    name = f"t-{uuid4().hex[:12]}"
    monkeypatch.setenv(ENV, kafka.bootstrap)

    async def give_up() -> None:
        await ensure_system_topics(kafka)
        await ensure_task_topics(kafka, name, 1)
        async with Producer(kafka, "test") as producer:
            for number in range(3):
                headers = ((h.ID, b"q-%d" % number), (h.TASK, name.encode()))
                record = Record(task_topic(name), 0, number, 0, 0, b"k", b"v" * 5000, None, 1, 5, headers)
                await (await publish_dead_letter(producer, record, f"reason {number}"))

    asyncio.run(give_up())
    return name


def test_dead_letters_commands_list_show_replay_and_drop(task: str, shell: Shell) -> None:
    def listed(*words: str) -> list[tuple[str, str]]:
        rows = json.loads(shell("dead-letters", "list", "--task", task, "--json", *words).stdout)
        return [(row["query"], row["state"]) for row in rows]

    table = shell("dead-letters", "list", "--task", task, "--since", "1h").stdout
    assert all(word in table for word in (task, "q-0", "q-2", "reason 1"))
    assert listed("--until", "1h") == []
    assert listed("--limit", "1") == [("q-2", "open")]
    (first, *_) = json.loads(shell("dead-letters", "list", "--task", task, "--json").stdout)
    shown = shell("dead-letters", "show", first["letter"]).stdout
    assert all(word in shown for word in ("infaas-id", "reason 0", "the first 1000 of 5000 bytes"))
    assert "v" * 5000 not in "".join(shown.split())

    assert shell("dead-letters", "drop").exit_code == EXIT_SETUP, "what to drop has to be said"
    assert json.loads(shell("dead-letters", "replay", first["letter"], "--json").stdout)["replayed"] == 1
    assert json.loads(shell("dead-letters", "replay", first["letter"], "--json").stdout)["replayed"] == 0
    assert listed("--done") == [("q-0", "replayed"), ("q-1", "open"), ("q-2", "open")]
    dropped = shell("dead-letters", "drop", "--task", task, "--reason", "reason 1", "--json")
    assert json.loads(dropped.stdout) == {"dropped": 1}
    assert listed() == [("q-2", "open")]
    acts = json.loads(shell("audit", "--json").stdout)
    assert [(act["verb"], act["subject"], act["outcome"]) for act in acts] == [
        ("replay-letters", first["letter"], "done"),
        ("replay-letters", first["letter"], "done"),
        ("drop-letters", "", "done"),
    ]
    assert acts[-1]["detail"] == {"task": task, "reason": "reason 1"}


@pytest.mark.parametrize("words", [("show", "0/999999999"), ("show", "x"), ("list", "--since", "soon")])
def test_dead_letters_refuse_invalid_arguments(task: str, shell: Shell, words: tuple[str, ...]) -> None:
    assert shell("dead-letters", *words).exit_code == EXIT_SETUP
