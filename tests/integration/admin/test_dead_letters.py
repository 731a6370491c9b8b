"""Tests of dead letters in the admin API: local and remote commands, and concurrent replays by pages."""

import json
from uuid import uuid4

import pytest

from broker.dead_letters.letter import publish_dead_letter
from broker.fetch.tail import Tail
from broker.kafka.settings import ENV, KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_task_topics
from broker.kafka.types import Record
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.access import Role
from schemas.topics import task_topic
from store.audit import list_acts
from store.pool import Pool
from tests.integration.admin.test_keys import Desk
from tests.integration.gateway.test_authentication import guarded, new_key
from tests.unit.infaas.shell import Shell

LETTERS = "/v1/dead-letters"


async def give_up(kafka: KafkaSettings, count: int) -> str:
    """Create a task with `count` dead letters; return its name."""
    task = f"t-{uuid4().hex[:12]}"
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, 1)
    async with Producer(kafka, "test") as producer:
        for number in range(count):
            headers = ((h.ID, b"q-%d" % number), (h.TASK, task.encode()))
            record = Record(task_topic(task), 0, number, 0, 0, b"k", b"v" * 2000, headers)
            await (await publish_dead_letter(producer, record, f"reason {number % 2}"))
    return task


async def asked_again(kafka: KafkaSettings, task: str) -> list[str]:
    async with Tail(kafka, "test", [task_topic(task)], since_ms=0.0) as tail:
        return [(dict(record.headers)[h.ID] or b"").decode() async for record in tail.past()]


async def test_dead_letters_commands_act_alike_locally_and_remotely(
    kafka: KafkaSettings, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV, kafka.bootstrap)
    task, more, admin = await give_up(kafka, 3), await give_up(kafka, 3), await new_key(store_pool, None, Role.ADMIN)
    async with guarded(kafka, database) as (gateway,):
        desk = Desk(shell, gateway.url, admin, database, monkeypatch)

        async def listed(*words: str) -> list[tuple[str, str]]:
            rows = json.loads(await desk.both("dead-letters", "list", "--task", task, "--json", *words))
            return [(row["query"], row["state"]) for row in rows]

        table = await desk.both("dead-letters", "list", "--task", task, "--since", "1h")
        assert all(word in table for word in (task, "q-0", "q-2", "reason 1"))
        rows = json.loads(await desk.both("dead-letters", "list", "--task", task, "--json"))
        assert [row["query"] for row in rows] == ["q-0", "q-1", "q-2"]
        assert await listed("--until", "1h") == []
        assert await listed("--limit", "1") == [("q-2", "open")]
        first = rows[0]["letter"]
        shown = json.loads(await desk.both("dead-letters", "show", first, "--json"))
        assert (shown["query"], len(shown["value"]), shown["bytes"]) == ("q-0", 1000, 2000)
        text = await desk.both("dead-letters", "show", first)
        assert all(word in text for word in (h.ID, "reason 0", "the first 1000 of 2000"))
        assert "v" * 2000 not in "".join(text.split())
        for remote in (True, False):
            await desk.run("dead-letters", "show", "0/999999999", remote=remote, code=1)
            await desk.run("dead-letters", "drop", remote=remote, code=1)
        assert json.loads(await desk.run("dead-letters", "replay", first, "--json"))["replayed"] == 1
        again = await desk.both("dead-letters", "replay", first, "--json")
        assert json.loads(again) == {"replayed": 0, "answered": 0, "passed_over": {}}
        assert await listed("--done") == [("q-0", "replayed"), ("q-1", "open"), ("q-2", "open")]
        dropped = await desk.run("dead-letters", "drop", "--task", task, "--reason", "REASON 1", "--json")
        assert json.loads(dropped) == {"dropped": 1}
        assert await listed() == [("q-2", "open")]
        asked, pages = {"task": more, "limit": 2}, list[int]()
        while not pages or asked["after"]:
            status, _, page = await gateway.ask(admin, f"{LETTERS}/replay", json=asked)
            assert status == 200, page
            pages.append(page["replayed"])
            asked |= {"after": page["after"], "until": page["until"]}
        assert (sum(pages), len(pages) > 1) == (3, True)
        assert await gateway.status(admin, f"{LETTERS}/drop", json={}) == 400
        assert await gateway.status(admin, f"{LETTERS}/0/999999999", "GET") == 404
        for role in (Role.QUERY, Role.PUBLISH):
            assert await gateway.status(await new_key(store_pool, role=role), LETTERS, "GET") in (401, 403)
    assert (await asked_again(kafka, task), await asked_again(kafka, more)) == (["q-0"], ["q-0", "q-1", "q-2"])
    acts = [act for act in await list_acts(store_pool, actor=f"key:{admin.id}") if act.outcome == "done"]
    assert [(act.verb, act.subject) for act in acts] == [
        *[("replay-letters", "")] * len(pages),
        ("drop-letters", ""),
        ("replay-letters", first),
        ("replay-letters", first),
    ]
    assert acts[len(pages)].detail == {"task": task, "reason": "REASON 1"}
