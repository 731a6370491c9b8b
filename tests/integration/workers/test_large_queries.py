"""Tests of large queries next to small ones, sent by plain aiokafka, with a real broker and model."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from broker.delivery.in_flight import MemoryShare, RecordMemory
from schemas import headers as h
from schemas.oip import decode_response
from schemas.topics import variant_topic
from tests.integration.workers.conftest import MAX_BATCH, Header, Site, request_of, results_of
from tests.model_files import picky_model, slow_model

ROWS = 20_000


def json_request_of(images: np.ndarray) -> tuple[bytes, list[Header]]:
    tensor = {"name": "input", "shape": images.shape, "datatype": "FP32", "data": images.tolist()}
    return json.dumps({"inputs": [tensor]}).encode(), [(h.BATCH, b"%d" % len(images))]


class WatchedMemory(RecordMemory):
    most = 0

    def change(self, share: MemoryShare, size: int) -> None:
        super().change(share, size)
        WatchedMemory.most = max(WatchedMemory.most, self.used)


class PlainClient:
    def __init__(self, site: Site, producer: AIOKafkaProducer) -> None:
        self._site = site
        self._producer = producer

    async def ask(self, name: str, request: tuple[bytes, list[Header]]) -> None:
        value, headers = request
        named = [(h.ID, name.encode()), (h.REPLY_TO, self._site.replies.encode()), (h.TASK, self._site.task.encode())]
        await self._producer.send_and_wait(
            variant_topic(self._site.variant), value, headers=[*named, *headers], partition=0
        )


async def test_small_queries_overtake_large_ones(site: Site, tmp_path: Path) -> None:
    """The large query has forty batches of some tenths of a second; the small ones are sent after it."""
    model = await asyncio.to_thread(slow_model, tmp_path / "slow.onnx", 50_000)
    await site.register(model, batch_s=0.1)
    async with AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap) as producer, results_of(site) as results:
        client = PlainClient(site, producer)
        await client.ask("large", request_of(np.resize(site.images, (40 * MAX_BATCH, 1, 8, 8))))
        for number in range(10):
            await client.ask(f"small {number}", request_of(site.images[number : number + 1]))
        async with site.worker("cpu-0"):
            await site.place("cpu-0")
            await results.until(11)
    order = [(result.id.split()[0], result.status) for result in results.all]
    assert order == [("small", "ok")] * 10 + [("large", "ok")]


async def test_large_query_result_equals_small_queries(site: Site) -> None:
    await site.register()
    images = np.resize(site.images, (ROWS, 1, 8, 8))
    plain = AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap, max_request_size=16 << 20)
    async with plain as producer, results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        client = PlainClient(site, producer)
        await client.ask("binary", request_of(images))
        await client.ask("json", json_request_of(images[: ROWS // 4]))
        for number in range(20):
            await client.ask(f"small {number}", request_of(images[number : number + 1]))
        found = await results.until(22)
    assert Counter(result.status for result in results.all) == {"ok": 22}
    logits = {name: decode_response(each.value, each.json_length).outputs["logits"] for name, each in found.items()}
    assert logits["binary"].shape == (ROWS, 10)
    np.testing.assert_allclose(logits["json"], logits["binary"][: ROWS // 4], rtol=1e-4, atol=1e-4)
    for number in range(20):
        np.testing.assert_allclose(logits[f"small {number}"][0], logits["binary"][number], rtol=1e-4, atol=1e-4)


async def test_large_query_with_bad_row_fails_once(site: Site, tmp_path: Path) -> None:
    await site.register(await asyncio.to_thread(picky_model, tmp_path / "picky.onnx"))
    images = np.ones((ROWS, 1, 8, 8), np.float32)
    wrong = images.copy()
    wrong[ROWS // 3] = wrong[ROWS // 2] = 9.0
    plain = AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap, max_request_size=16 << 20)
    async with plain as producer, results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        client = PlainClient(site, producer)
        await client.ask("wrong", request_of(wrong))
        await client.ask("right", request_of(images))
        await results.until(2)
        await client.ask("last", request_of(images[:1]))
        await results.until(3)
    answers = Counter((result.id, result.status) for result in results.all)
    assert answers == {("wrong", "invalid_request"): 1, ("right", "ok"): 1, ("last", "ok"): 1}


async def test_decoded_tensors_count_as_bytes_in_flight(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zero takes three bytes in JSON and four as a tensor."""
    monkeypatch.setattr("workers.service.RecordMemory", WatchedMemory)
    await site.register()
    value, headers = json_request_of(np.zeros((1000, 1, 8, 8), np.int8))
    plain = AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap, max_request_size=16 << 20)
    async with plain as producer, results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await PlainClient(site, producer).ask("zeros", (value, headers))
        await results.until(1)
    assert [result.status for result in results.all] == ["ok"]
    assert WatchedMemory.most >= len(value) + 4 * 64_000
