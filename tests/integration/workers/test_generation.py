"""Tests of generative variants in a worker: answers, their options and parts, and their ends before time."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import ReplyStreamSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics
from broker.producing.producer import Producer
from broker.replies.receiver import ReplyStreamReceiver
from registry.artifacts import ArtifactStore
from registry.register import register
from registry.request import Registration
from schemas import headers as h
from schemas.generation import AnswerPart
from schemas.oip import decode_response
from schemas.result import Result
from store.registry import get_profile
from tests.gguf_models import write_gguf
from tests.integration.workers.conftest import PARTITIONS, Header, Results, Site, results_of
from tests.model_files import Quiet

pytestmark = pytest.mark.needs_language_model

CONTEXT = 256
SLOW_LAYERS = 100
"""Layers of a model that takes some milliseconds for a token."""
PROMPTS = [f"prompt {number}" for number in range(10)]
CHAT = [{"role": "user", "content": "hello"}]


async def registered(site: Site, folder: Path, *, layers: int = 2, sequences: int = 4) -> None:
    """Register a tiny model as the site's only variant."""
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": prompt, "answer": "x"}) for prompt in PROMPTS))
    site.variant = f"{site.variant.split('.')[0]}.llamacpp-fp16.cpu"
    request = Registration(
        architecture=site.variant.split(".")[0],
        task=site.task,
        file=write_gguf(folder / "tiny.gguf", layers=layers),
        validation=rows,
        sequences=sequences,
        context_tokens=CONTEXT,
        partitions=PARTITIONS,
        variants=("llamacpp-fp16",),
    )
    await ensure_system_topics(site.kafka)
    await ensure_topics(site.kafka, [TopicSpec(site.replies)])
    (variant,) = await register(request, site.pool, site.kafka, ArtifactStore(site.home / "artifacts"), Quiet())
    assert (variant.name, variant.max_batch) == (site.variant, sequences)


def asked(*texts: str, **parameters: object) -> bytes:
    tensor = {"name": "text_input", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return msgspec.json.encode({"inputs": [tensor], "parameters": parameters})


def text_of(result: Result) -> bytes:
    assert result.status == "ok", result.error()
    return decode_response(result.value).outputs["text_output"][0]


def part_of(record: Record) -> tuple[str, int, AnswerPart]:
    attempt, number = h.as_text(record.headers)[h.PART].split(" ")
    return attempt, int(number), msgspec.json.decode(record.value or b"", type=AnswerPart)


async def answers(site: Site, results: Results, producer: Producer, *queries: bytes, batch: int = 1) -> list[Result]:
    """Send queries at once; return their results in this order."""
    before = len({result.id for result in results.all})
    ids = [f"q{before + number}" for number in range(len(queries))]
    for query_id, value in zip(ids, queries, strict=True):
        await site.ask_soon(producer, query_id, value, [(h.BATCH, str(batch).encode())])
    found = await results.until(before + len(queries))
    return [found[query_id] for query_id in ids]


async def test_generative_variant_answers_prompts_and_chats(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path)
    profile = await get_profile(site.pool, site.variant)
    assert profile is not None
    assert profile.generation is not None
    assert (profile.generation.context_tokens, profile.generation.sequences) == (CONTEXT, 4)
    assert [one.batch for one in profile.latency] == [one.sequences for one in profile.generation.step] == [1, 2, 4]
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        seeded = asked("hello", max_tokens=8, seed=7, ignore_eos=True)
        one, again, other = await answers(
            site, results, producer, seeded, seeded, asked("hello", max_tokens=8, seed=8, ignore_eos=True)
        )
        assert text_of(one) == text_of(again) != text_of(other)
        outputs = decode_response(one.value).outputs
        assert outputs["completion_tokens"].tolist() == [8]
        assert outputs["finish_reason"].tolist() == [b"length"]
        assert "mean_logprob" not in outputs
        chat = asked(json.dumps(CHAT), chat=True, max_tokens=4, logprobs=2, temperature=0)
        outputs = decode_response((await answers(site, results, producer, chat))[0].value).outputs
        assert outputs["mean_logprob"][0] < 0
        first = json.loads(outputs["logprobs"][0])[0]
        assert first["logprob"] == first["top"][0][1]
        (several,) = await answers(site, results, producer, asked("a", "b", "c", max_tokens=3), batch=3)
        assert decode_response(several.value).outputs["text_output"].shape == (3,)


WRONG = {
    "did you mean temperature": asked("a", temprature=1),
    f"takes at most {CONTEXT} of prompt and answer": asked("a " * 200),
    "bytes, but this model takes at most": asked("a" * 20_000),
    "a chat must be a JSON list of messages": asked("not a chat", chat=True),
    "a chat may contain texts only": asked('[{"role":"user","content":[{"type":"image_url","text":""}]}]', chat=True),
    "json_schema must be a JSON object": asked("a", json_schema="["),
}
"""Wrong requests by words of their errors."""


async def test_generative_variant_refuses_wrong_requests(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path)
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        *refused, answered = await answers(site, results, producer, *WRONG.values(), asked("good", max_tokens=2))
    assert answered.status == "ok"
    for words, result in zip(WRONG, refused, strict=True):
        assert result.status == "invalid_request"
        assert words in str(result.error())


async def test_parts_go_to_reply_topic_in_order(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path, layers=SLOW_LAYERS)
    async with Tail(site.kafka, "test-parts", [site.replies]) as tail, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        value = asked("hello", max_tokens=60, ignore_eos=True)
        await site.ask(producer, "q", value, [(h.STREAM, b"true"), (h.CORRELATION, b"secret")])
        records = await until_result(tail)
    *parts, result = records
    assert all(h.as_text(record.headers)[h.CORRELATION] == "secret" for record in records)
    found = [part_of(record) for record in parts]
    assert len(found) > 2
    assert [number for _, number, _ in found] == list(range(len(found)))
    assert len({attempt for attempt, _, _ in found}) == 1
    outputs = decode_response(result.value or b"").outputs
    assert "".join(part.text for _, _, part in found).encode() == outputs["text_output"][0]
    assert sum(part.tokens for _, _, part in found) <= outputs["completion_tokens"][0] == 60


async def test_parts_of_several_texts_name_the_place_of_theirs(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path, layers=SLOW_LAYERS)
    async with Tail(site.kafka, "test-parts", [site.replies]) as tail, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        value = asked("hello", "other", max_tokens=20, ignore_eos=True)
        await site.ask(producer, "q", value, [(h.STREAM, b"true"), (h.BATCH, b"2")])
        *parts, result = await until_result(tail)
    found = [part_of(record) for record in parts]
    texts = ["".join(part.text for _, _, part in found if part.index == place) for place in range(2)]
    assert [text.encode() for text in texts] == decode_response(result.value or b"").outputs["text_output"].tolist()
    attempts = {(attempt, part.index) for attempt, _, part in found}
    assert len(attempts) == len({attempt for attempt, _ in attempts}) == 2


async def until_result(tail: Tail) -> list[Record]:
    """Return the records until the first result."""
    records: list[Record] = []
    async with asyncio.timeout(100):
        while not any(h.STATUS in h.as_text(record.headers) for record in records):
            records += await tail.poll()
    return records


async def test_answer_past_deadline_is_cancelled(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path, layers=SLOW_LAYERS, sequences=1)
    endless, brief = asked("endless", max_tokens=240, ignore_eos=True), asked("brief", max_tokens=1)
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        await results_after(site, producer, results, brief)  # the instance is ready
        late: list[Header] = [(h.LATENCY_MS, b"60")]
        await site.ask(producer, "late", endless, late)
        await site.ask(producer, "waiting", brief, late)  # never begins: only one answer is made at once
        await site.ask(producer, "patient", brief)
        await site.ask(producer, "allowed", endless, [*late, (h.ALLOW_LATE, b"true")])
        found = await results.until(5)
    statuses = {query_id: result.status for query_id, result in found.items() if query_id != "first"}
    assert statuses == {
        "late": "deadline_exceeded", "waiting": "deadline_exceeded", "patient": "ok", "allowed": "ok"
    }  # fmt: skip


async def results_after(site: Site, producer: Producer, results: Results, value: bytes) -> None:
    await site.ask(producer, "first", value)
    await results.until(1)


async def test_answer_that_nobody_waits_for_is_cancelled(site: Site, producer: Producer, tmp_path: Path) -> None:
    """It ends while its prompt is computed, which is all that its caller hears of."""
    await registered(site, tmp_path, layers=SLOW_LAYERS)
    parts, results = dict[str, list[int]](), asyncio.Queue[tuple[dict[str, str], bytes]]()

    def receive(headers: h.RawHeaders, value: bytes) -> bool:
        """Receive parts as a process whose caller is gone."""
        fields = h.as_text(headers)
        if h.PART in fields:
            parts.setdefault(fields[h.ID], []).append(msgspec.json.decode(value, type=AnswerPart).tokens)
            return True
        results.put_nowait((fields, value))
        return False

    endless = asked("a" * (CONTEXT - 16), ignore_eos=True)
    async with (
        ReplyStreamReceiver(ReplyStreamSettings(), receive) as receiver,
        Tail(site.kafka, "test-results", [site.replies]) as tail,
        site.worker("cpu-0"),
    ):
        await site.place("cpu-0", [0])
        streamed = [(h.STREAM, b"true"), (h.REPLY_STREAM, receiver.header)]
        await site.ask(producer, "first", endless, streamed)  # connects; its result may go to the topic
        ends = {asyncio.create_task(results.get()), asyncio.create_task(tail.poll())}
        done, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=100)
        assert done
        for task in waiting:
            task.cancel()
        await site.ask(producer, "second", endless, streamed)
        async with asyncio.timeout(100):
            fields, value = await results.get()
            while fields[h.ID] != "second":
                fields, value = await results.get()
    assert set(parts["second"]) == {0}
    assert fields[h.STATUS] == "deadline_exceeded"
    assert b"nobody waits for this answer" in value
