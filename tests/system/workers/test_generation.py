"""Test of a worker process that dies in the middle of answers: its successor makes them again."""

import asyncio
from pathlib import Path

import pytest

from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.oip import decode_response
from tests.integration.workers.conftest import Site
from tests.integration.workers.test_generation import SLOW_LAYERS, asked, part_of, registered
from tests.system.workers.test_crash import process

pytestmark = pytest.mark.needs_language_model

QUERIES = 6
TOKENS = 150


def results_in(records: list[Record]) -> dict[str, list[Record]]:
    """Return the records that are results, by query."""
    found: dict[str, list[Record]] = {}
    for record in records:
        fields = h.as_text(record.headers)
        if h.STATUS in fields:
            found.setdefault(fields[h.ID], []).append(record)
    return found


async def test_sigkill_amid_answers_repeats_them(site: Site, producer: Producer, tmp_path: Path) -> None:
    await registered(site, tmp_path, layers=SLOW_LAYERS)
    records: list[Record] = []
    async with Tail(site.kafka, "test-parts", [site.replies]) as tail, asyncio.timeout(100):
        with process(site, "cpu-kill") as first:
            await site.place("cpu-kill")
            for number in range(QUERIES):
                value = asked(f"prompt {number}", max_tokens=TOKENS, ignore_eos=True)
                await site.ask(producer, f"q{number}", value, [(h.STREAM, b"true")])
            while not records:
                records += await tail.poll()
            first.kill()
        with process(site, "cpu-kill"):
            while len(results_in(records)) < QUERIES:
                records += await tail.poll()
    results = results_in(records)
    assert all(h.as_text(found[0].headers)[h.STATUS] == "ok" for found in results.values())
    texts = {query_id: decode_response(found[0].value or b"").outputs for query_id, found in results.items()}
    assert all(outputs["completion_tokens"].tolist() == [TOKENS] for outputs in texts.values())
    attempts = attempts_in(records)
    assert any(len(of_query) == 2 for of_query in attempts.values())
    for query_id, of_query in attempts.items():
        whole = texts[query_id]["text_output"][0].decode()
        assert all(whole.startswith(text) for text in of_query.values())  # the seed of each attempt is the same


def attempts_in(records: list[Record]) -> dict[str, dict[str, str]]:
    """Return the text of the parts of each attempt, by query and name of the attempt."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        fields = h.as_text(record.headers)
        if h.PART in fields:
            attempt, _, part = part_of(record)
            of_query = found.setdefault(fields[h.ID], {})
            of_query[attempt] = of_query.get(attempt, "") + part.text
    return found
