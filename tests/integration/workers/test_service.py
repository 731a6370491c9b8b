"""Tests of the whole worker, with a real broker, Postgres and model."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from broker.dead_letters.letter import SHORTENED, TOPIC
from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from broker.replies.request_reply import RequestReply
from registry.artifacts import ArtifactStore
from registry.topics import grow_variant_topics
from runtimes.onnx import OnnxSession
from runtimes.protocol import Tensors
from schemas import headers as h
from schemas import topics
from schemas.answer_times import quantile_s
from schemas.load_classes import ClassAnswers
from schemas.oip import decode_response, encode_request
from schemas.result import error_message
from schemas.rows.cluster import InstanceRow, Lease
from schemas.status import InstanceState, WorkerStatus
from store.placement import acquire_leases, list_instances, list_leases, list_workers, register_worker
from store.pool import Pool
from tests.example_rows import a_worker
from tests.integration.broker.test_reply_stream import streamed as results_streamed
from tests.integration.workers.conftest import MAX_BATCH, Results, Site, class_of, results_of
from tests.model_files import picky_model, ragged_model
from tests.proxies import entrance
from tests.waiting import PATIENCE_S, read_until
from workers.instance_controller import InstanceController
from workers.serving.instance import ServingInstance
from workers.serving.loading import DeviceMemory, close_session
from workers.serving.metrics import InstanceMetrics
from workers.serving.model import LoadedModel, ServableModel, load_session
from workers.serving.pending_query import PendingQuery
from zoo.samples import labelled


async def answered(results: Results, count: int) -> dict[str, str]:
    return {query: result.status for query, result in (await results.until(count)).items()}


async def test_placed_variant_answers_with_model_outputs(site: Site, producer: Producer) -> None:
    await site.register()
    _inputs, labels = labelled("digits")
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        for number in range(40):
            value, headers = site.value(number * 5, 5)
            asked = [*headers, (h.TRACEPARENT, b"00-trace"), (h.ACCURACY, b"0.95"), (h.COST, b"0.5")]
            await site.ask(producer, f"q{number}", value, asked, partition=number % 2)
        found = await results.until(40)
    right = 0
    for number in range(40):
        result = found[f"q{number}"]
        response = decode_response(result.value, result.json_length)
        assert (result.status, result.variant, result.worker) == ("ok", site.variant, "cpu-0")
        assert (response.model_name, response.id) == (site.task, f"q{number}")
        assert response.parameters["variant"] == site.variant
        assert response.parameters["accuracy"] == 0.95
        assert result.compute_ns > 0
        right += sum(np.equal(class_of(response.outputs["logits"]), labels[number * 5 : number * 5 + 5]))
    assert right / 200 > 0.9


async def test_worker_answers_by_reply_stream(site: Site) -> None:
    await site.register()
    value, headers = site.value()
    async with RequestReply(site.kafka, site.task) as requests, site.worker("cpu-0"), asyncio.timeout(60):
        await site.place("cpu-0")
        asked = [(h.ID, b"q"), (h.REPLY_TO, requests.reply_topic.encode()), (h.TASK, site.task.encode()), *headers]
        before = results_streamed()
        while results_streamed() == before:
            result = await requests.ask("q", topics.variant_topic(site.variant), value, asked)
            assert (result.status, result.worker) == ("ok", "cpu-0")


async def test_worker_serves_added_partitions(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "before", value, headers)
        await results.until(1)
        await grow_variant_topics(site.pool, site.kafka, site.variant, 4)
        await site.place("cpu-0", range(4))
        for number in range(8):
            await site.ask(producer, f"q{number}", value, headers, partition=number % 4)
        assert set((await answered(results, 9)).values()) == {"ok"}


async def test_json_query_is_answered_in_json(site: Site, producer: Producer) -> None:
    await site.register()
    tensor = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": site.images[0].ravel().tolist()}
    value = msgspec.json.encode({"id": "mine", "inputs": [tensor], "outputs": [{"name": "logits"}]})
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "q", value, [(h.TARGET, b"mlp")])
        result = (await results.until(1))["q"]
    response = msgspec.json.decode(result.value)
    assert (result.content_type, result.json_length) == ("application/json", None)
    assert (response["model_name"], response["id"]) == ("mlp", "mine")
    assert len(response["outputs"][0]["data"]) == 10


async def test_invalid_query_fails_alone(site: Site, producer: Producer) -> None:
    await site.register()
    good, good_headers = site.value()
    wrong_shape = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    wrong_output = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
    async with results_of(site) as results, site.worker("cpu-0"):
        for number in range(5):
            await site.ask(producer, f"good{number}", good, good_headers)
            await site.ask(producer, f"garbage{number}", b"\xff\x00 garbage")
        await site.ask(producer, "shape", msgspec.json.encode({"inputs": [wrong_shape]}))
        await site.ask(producer, "output", msgspec.json.encode({"inputs": [wrong_output], "outputs": [{"name": "x"}]}))
        await site.ask(producer, "header", good, [*good_headers, (h.MODE, b"sometimes")])
        for claimed in (b"2", b"65536"):
            await site.ask(producer, f"claims {claimed}", good, [*good_headers, (h.BATCH, claimed)])
        await site.place("cpu-0")
        status = await answered(results, 15)
    assert {query for query, code in status.items() if code == "ok"} == {f"good{number}" for number in range(5)}
    assert set(status.values()) == {"ok", "invalid_request"}


async def test_query_larger_than_batch_is_split_and_joined(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value(0, 100)
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "big", value, headers)
        result = (await results.until(1))["big"]
    logits = decode_response(result.value, result.json_length).outputs["logits"]
    _inputs, labels = labelled("digits")
    assert logits.shape == (100, 10)
    assert np.mean(np.equal(class_of(logits), labels[:100])) > 0.9


async def test_expired_query_is_not_computed(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    past = (h.DEADLINE_MS, str(int(time.time() * 1000) - 10).encode())
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "expired", value, [*headers, past])
        await site.ask(producer, "late", value, [*headers, past, (h.ALLOW_LATE, b"true")])
        await site.ask(producer, "idle", value, [*headers, (h.MODE, b"offline")])
        found = await results.until(3)
    assert {query: result.status for query, result in found.items()} == {
        "expired": "deadline_exceeded", "late": "ok", "idle": "ok"
    }  # fmt: skip
    assert found["expired"].compute_ns == 0


async def test_record_without_id_is_dead_lettered(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with (
        results_of(site) as results,
        Tail(site.kafka, "test-dead", [topics.DEAD_LETTERS]) as dead_letters,
        site.worker("cpu-0"),
    ):
        await site.place("cpu-0")
        await producer.send_and_wait(topics.variant_topic(site.variant), b"who am I", partition=0)
        await site.ask(producer, "good", value, headers)
        assert (await answered(results, 1)) == {"good": "ok"}
        assert [record.value for record in await buried(site, dead_letters, 1)] == [b"who am I"]


async def test_result_without_topic_is_dead_lettered(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    site = Site(kafka, database, store_pool, tmp_path)
    await site.register()
    value, headers = site.value()
    nowhere = (h.REPLY_TO, f"infaas.replies.nobody-{site.task}".encode())
    async with (
        Producer(kafka, "test") as producer,
        results_of(site) as results,
        Tail(site.kafka, "test-dead", [topics.DEAD_LETTERS]) as dead_letters,
        site.worker("cpu-0"),
    ):
        await site.place("cpu-0")
        await site.ask(producer, "nowhere", value, [*headers, nowhere])
        await site.ask(producer, "good", value, headers)
        assert (await answered(results, 1)) == {"good": "ok"}
        assert [record.key for record in await buried(site, dead_letters, 1)] == [b"nowhere"]


async def test_oversized_result_is_answered_as_error(site: Site, producer: Producer) -> None:
    await site.register()
    great, great_headers = site.value(0, 100)
    value, headers = site.value()
    async with (
        results_of(site) as results,
        Tail(site.kafka, "test-dead", [topics.DEAD_LETTERS]) as dead_letters,
    ):
        site.kafka = site.kafka.model_copy(update={"max_record_bytes": 3000})
        async with site.worker("cpu-0"):
            await site.place("cpu-0")
            await site.ask(producer, "great", great, great_headers)
            await site.ask(producer, "good", value, headers)
            found = await results.until(2)
            (letter,) = await buried(site, dead_letters, 1)
    assert {query: result.status for query, result in found.items()} == {"great": "invalid_request", "good": "ok"}
    assert "too large" in error_message(found["great"].value)
    assert (letter.key or b"").decode() == "great"
    assert SHORTENED in h.as_text(letter.headers)


async def test_refused_results_affect_no_other_results(site: Site, producer: Producer) -> None:
    """Kafka refuses three results among many; the others to this and another topic arrive, then and later."""
    await site.register()
    narrow = f"{site.replies}-narrow"
    await ensure_topics(site.kafka.model_copy(update={"max_record_bytes": 3000}), [TopicSpec(narrow)])
    great, great_headers = site.value(0, 100)
    value, headers = site.value()
    expected = {f"{place}{number}": "ok" for place in ("near", "far", "later") for number in range(20)}
    async with (
        results_of(site) as wide_results,
        Tail(site.kafka, "test-narrow", [narrow]) as tail,
        site.worker("cpu-0"),
    ):
        narrow_results, to_narrow = Results(tail), (h.REPLY_TO, narrow.encode())
        await site.place("cpu-0")
        for number in range(20):
            if number % 8 == 3:
                asked = [*great_headers, to_narrow]
                await site.ask_soon(producer, f"great{number}", great, asked, partition=number % 2)
                expected[f"great{number}"] = "invalid_request"
            await site.ask_soon(producer, f"near{number}", value, [*headers, to_narrow], partition=number % 2)
            await site.ask_soon(producer, f"far{number}", value, headers, partition=number % 2)
        found = await answered(narrow_results, 23)
        for number in range(20):
            await site.ask_soon(producer, f"later{number}", value, [*headers, to_narrow], partition=number % 2)
        found |= await answered(narrow_results, 43) | await answered(wide_results, 20)
    assert found == expected


async def buried(site: Site, dead_letters: Tail, count: int) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(100):
        while len(found) < count:
            found += [r for r in await dead_letters.poll() if _topic_of(r) == topics.variant_topic(site.variant)]
    return found


def _topic_of(dead: Record) -> str:
    return h.as_text(dead.headers)[TOPIC]


async def test_status_and_rows_report_instances(site: Site, producer: Producer) -> None:
    await site.register()
    async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
        async with site.worker("cpu-status"):
            await site.place("cpu-status")
            serving = await _status_where(
                tail, "cpu-status", lambda status: any(len(instance.partitions) == 2 for instance in status.instances)
            )
            rows = await list_instances(site.pool, worker="cpu-status")
            leases = await list_leases(site.pool, variant=site.variant)
        last = await _status_where(tail, "cpu-status", lambda status: status.leaving)
    instance = serving.instances[0]
    assert (instance.variant, instance.state) == (site.variant, InstanceState.ACTIVE)
    assert [row.state for row in rows] == [InstanceState.ACTIVE]
    assert {lease.worker for lease in leases} == {"cpu-status"}
    assert last.epoch == serving.epoch
    assert await list_workers(site.pool) == []
    assert await list_leases(site.pool, variant=site.variant) == []


async def test_status_counts_answers(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value(0, 3)
    past = (h.DEADLINE_MS, str(int(time.time() * 1000) - 10).encode())
    answers, times = list[ClassAnswers](), Counter[int]()

    def all_are_answered(status: WorkerStatus) -> bool:
        answers.extend(status.answers)
        times.update(status.answer_times.get(site.task, {}))
        return sum(answer.queries for answer in answers) == 4 and times.total() == 2

    async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail, site.worker("cpu-counts"):
        await site.place("cpu-counts")
        await site.ask(producer, "good", value, headers)
        await site.ask(producer, "late", value, [*headers, past, (h.ALLOW_LATE, b"true")])
        await site.ask(producer, "expired", value, [*headers, past])
        await site.ask(producer, "claims", value, [*headers, (h.BATCH, b"5000")])
        await _status_where(tail, "cpu-counts", all_are_answered)
        status = await _status_where(
            tail, "cpu-counts", lambda status: any(instance.answered == 4 for instance in status.instances)
        )
    assert sum(answer.late for answer in answers if answer.load_class.latency_ms is not None) == 1
    assert sum(answer.failed for answer in answers if answer.load_class.latency_ms is not None) == 1
    assert sum(answer.unfounded for answer in answers) == 4997
    assert 0 < (quantile_s(times, 1.0) or 0.0) < 60
    instance = status.instances[0]
    assert (instance.inputs, instance.late, instance.expired) == (6, 1, 1)
    assert 0 < status.busy_s < 5


async def test_idle_worker_sends_status_after_query(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()

    def position(status: WorkerStatus) -> int:
        return sum(owned.position for instance in status.instances for owned in instance.partitions)

    async with (
        Tail(site.kafka, "test-status", [topics.STATUS]) as tail,
        site.worker("cpu-idle", status_idle_interval_s=600.0),
    ):
        await site.place("cpu-idle")
        await _status_where(tail, "cpu-idle", lambda status: [len(i.partitions) for i in status.instances] == [2])
        for number in range(1, 4):
            await site.ask(producer, f"q{number}", value, headers)
            status = await _status_where(tail, "cpu-idle", lambda status, n=number: position(status) == n)
            while any(instance.queued for instance in status.instances):
                status = await _status_where(tail, "cpu-idle", lambda _status: True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await _status_where(tail, "cpu-idle", lambda _status: True)


async def _status_where(tail: Tail, worker: str, holds: Callable[[WorkerStatus], bool]) -> WorkerStatus:
    while True:
        for record in await tail.poll():
            status = msgspec.json.decode(record.value or b"", type=WorkerStatus)
            if status.worker == worker and holds(status):
                return status


async def test_handover_loses_and_repeats_nothing(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-a"), site.worker("cpu-b"):
        await site.place("cpu-a")
        for number in range(600):
            await site.ask(producer, f"q{number}", value, headers, partition=number % 2)
            if number == 200:  # first both are assigned partition 1, then the first worker loses it
                await site.place("cpu-b", [1])
            if number == 300:
                await site.place("cpu-a", [0])
        found = await results.until(600)
        while results.workers != {"cpu-a", "cpu-b"}:
            await site.ask(producer, f"q{len(found)}", value, headers, partition=1)
            found = await results.until(len(found) + 1)
    assert Counter(result.status for result in results.all) == {"ok": len(found)}


async def test_move_waits_until_new_instance_has_loaded(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.register()
    value, headers = site.value()
    loading, loaded = threading.Event(), threading.Event()

    def load_late(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int) -> LoadedModel:
        loading.set()
        assert loaded.wait(30)
        return load_session(model, artifacts, threads, lanes)

    async def ask(queries: Sequence[str]) -> None:
        for number, query in enumerate(queries):
            await site.ask(producer, query, value, headers, partition=number % 2)

    async with results_of(site) as results, site.worker("cpu-a"), site.worker("cpu-b"):
        await site.place("cpu-a")
        before, during, after = ([f"{when}{n}" for n in range(40)] for when in ("before", "during", "after"))
        await ask(before)
        await results.until(40)
        monkeypatch.setattr("workers.serving.loading.load_session", load_late)
        await site.place("cpu-b")
        await site.unplace("cpu-a")
        assert await asyncio.to_thread(loading.wait, 30)
        await ask(during)
        found = await results.until(80)
        assert {found[query].worker for query in during} == {"cpu-a"}
        loaded.set()
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            await _status_where(tail, "cpu-b", lambda status: any(len(i.partitions) == 2 for i in status.instances))
        await ask(after)
        found = await results.until(120)
        assert {found[query].worker for query in after} == {"cpu-b"}
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            await _status_where(tail, "cpu-a", lambda status: not status.instances)
    assert Counter(result.status for result in results.all) == {"ok": 120}


async def test_removed_instance_serves_until_next_requests(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.register()
    value, headers = site.value()
    taken, unwanted, loaded = asyncio.Event(), asyncio.Event(), threading.Event()
    assign, update_row = ServingInstance.assign, InstanceController.update_row

    async def assign_slowly(self: ServingInstance, partitions: Collection[int], drain_s: float) -> None:
        await assign(self, partitions, drain_s)
        if not taken.is_set():
            taken.set()
            await unwanted.wait()

    def see_row(self: InstanceController, row: InstanceRow | None) -> None:
        update_row(self, row)
        if row is None:
            unwanted.set()

    def load_late(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int) -> LoadedModel:
        loaded.wait()
        return load_session(model, artifacts, threads, lanes)

    monkeypatch.setattr(ServingInstance, "assign", assign_slowly)
    monkeypatch.setattr(InstanceController, "update_row", see_row)
    async with results_of(site) as results, site.worker("cpu-a"), site.worker("cpu-b"):
        await site.place("cpu-a")
        await taken.wait()
        monkeypatch.setattr("workers.serving.loading.load_session", load_late)
        try:
            await site.place("cpu-b")
            await site.unplace("cpu-a")
            await unwanted.wait()
            for number in range(10):
                await site.ask(producer, f"q{number}", value, headers, partition=number % 2)
            found = await results.until(10)
        finally:
            loaded.set()
    assert {result.worker for result in found.values()} == {"cpu-a"}


async def test_removed_instance_in_use_answers_queries_of_late_selectors(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "before", value, headers)
        await results.until(1)
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            await site.unplace("cpu-0")
            await _status_where(
                tail, "cpu-0", lambda status: any(not i.partitions for i in status.instances) or not status.instances
            )
            for number in range(4):  # from selectors that have not read this status yet
                await site.ask(producer, f"late-{number}", value, headers, partition=number % 2)
        found = await results.until(5)
    assert {result.status for result in found.values()} == {"ok"}


async def test_instance_in_use_releases_partition_that_its_row_no_longer_names(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    asked = 0

    async def held_under_load() -> set[int]:
        nonlocal asked
        await site.ask(producer, f"q{asked}", value, headers)
        asked += 1
        return {lease.partition for lease in await list_leases(site.pool, variant=site.variant)}

    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await read_until(held_under_load, lambda held: held == {0, 1})
        await results.until(asked)
        await site.place("cpu-0", [0])
        await read_until(held_under_load, lambda held: held == {0})
        found = await results.until(asked)
    assert {result.status for result in found.values()} == {"ok"}


async def test_batch_limit_changes_without_reload(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0"):
        for limit in (2, MAX_BATCH, 4):
            await site.place("cpu-0", max_batch=limit)
            async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
                status = await _status_where(
                    tail, "cpu-0", lambda status, limit=limit: [i.max_batch for i in status.instances] == [limit]
                )
            await site.ask(producer, f"q{limit}", value, headers)
            await results.until(1 + len(results.all))
        assert status.instances[0].answered == 2  # all queries before the last one, hence it was never loaded again


async def test_instance_computes_in_all_slots_of_worker(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query computes only while the other one does; in sequence neither would be answered in time."""
    both, infer = threading.Barrier(2), OnnxSession.infer

    def meet(self: OnnxSession, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        if "worker" in serving:
            both.wait(60)
        return infer(self, inputs)

    monkeypatch.setattr(OnnxSession, "infer", meet)
    serving: set[str] = set()
    await site.register(batch_s=0.01)
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0", cores=2):
        await site.place("cpu-0")
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            status = await _status_where(tail, "cpu-0", lambda status: any(i.partitions for i in status.instances))
        assert (status.slots, status.instances[0].parallel) == (2, 2)
        serving.add("worker")
        for number in range(2):
            await site.ask(producer, f"q{number}", value, headers, partition=number)
        assert await answered(results, 2) == {"q0": "ok", "q1": "ok"}


async def test_two_core_variant_takes_both_slots(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []

    def noted(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int) -> LoadedModel:
        opened.append((threads, lanes))
        return load_session(model, artifacts, threads, lanes)

    monkeypatch.setattr("workers.serving.loading.load_session", noted)
    await site.register(threads=2)
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0", cores=2):
        await site.place("cpu-0")
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            status = await _status_where(tail, "cpu-0", lambda status: any(i.partitions for i in status.instances))
        assert (status.slots, status.threads, status.instances[0].parallel) == (2, 1, 1)
        for number in range(3):
            await site.ask(producer, f"q{number}", value, headers, partition=number % 2)
        assert await answered(results, 3) == {"q0": "ok", "q1": "ok", "q2": "ok"}
    assert opened == [(2, 1)]


async def test_failed_load_names_reason_and_is_retried(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    artifact = next((site.home / "artifacts").iterdir())
    model = artifact.read_bytes()
    artifact.write_bytes(b"no model")
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "q", value, headers)
        await read_until(lambda: list_instances(site.pool), lambda rows: "cannot load" in rows[0].reason)
        artifact.write_bytes(model)
        assert (await answered(results, 1)) == {"q": "ok"}
        assert (await list_instances(site.pool))[0].reason == "wanted"


async def test_unloadable_model_fails_waiting_queries(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, loop = list[list[Lease]](), asyncio.get_running_loop()

    def noted(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int) -> LoadedModel:
        leases = asyncio.run_coroutine_threadsafe(list_leases(site.pool, variant=site.variant), loop)
        tried.append(leases.result(60))
        return load_session(model, artifacts, threads, lanes)

    monkeypatch.setattr("workers.serving.loading.load_session", noted)
    await site.register()
    value, headers = site.value(0, 3)
    artifact = next((site.home / "artifacts").iterdir())
    content = artifact.read_bytes()
    artifact.write_bytes(b"no model")
    async with (
        results_of(site) as results,
        Tail(site.kafka, "test-status", [topics.STATUS]) as status,
        site.worker("cpu-0", load_attempts=2, failed_answer_s=0.2),
    ):
        await site.place("cpu-0")
        await site.ask(producer, "q", value, headers)
        found = (await results.until(1))["q"]
        assert (found.status, site.variant in error_message(found.value)) == ("model_failed", True)
        row = (await list_instances(site.pool))[0]
        assert (row.state, "cannot load" in row.reason, len(tried)) == (InstanceState.FAILED, True, 2)
        said = await _status_where(
            status, "cpu-0", lambda said: any(one.state is InstanceState.FAILED for one in said.instances)
        )
        assert said.instances[0].reason in row.reason

        artifact.write_bytes(content)
        await site.register(batch_s=2e-4)
        rows = await read_until(lambda: list_instances(site.pool), lambda rows: rows[0].state is InstanceState.ACTIVE)
        await site.ask(producer, "again", value, headers)
        assert (await answered(results, 2))["again"] == "ok"
        assert rows[0].reason == "wanted"
        assert tried == [[], [], []], "others may have the partitions while it is loaded anew"


async def test_load_out_of_memory_is_retried(site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True]

    def load(model: ServableModel, artifacts: ArtifactStore, threads: int, lanes: int) -> LoadedModel:
        if full[0]:
            raise MemoryError
        return load_session(model, artifacts, threads, lanes)

    monkeypatch.setattr("workers.serving.loading.load_session", load)
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0", load_attempts=1, load_retry_max_s=0.5):
        await site.place("cpu-0")
        await site.ask(producer, "q", value, headers)
        rows = await read_until(lambda: list_instances(site.pool), lambda rows: rows[0].state is InstanceState.FAILED)
        assert "out of memory" in rows[0].reason
        full[0] = False
        assert await answered(results, 1) == {"q": "ok"}


async def test_load_waits_for_memory_of_replaced_instance(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Site(site.kafka, site.dsn, site.pool, site.home)

    def silent(_hardware: str) -> int:  # the memory in use is then the profiled memory
        return 0

    def try_claim(memory: DeviceMemory, model: ServableModel) -> None:
        try:
            claim(memory, model)
        finally:
            wanted.set()

    def see_expected(memory: DeviceMemory, model: ServableModel) -> bool:
        expected = is_expected(memory, model)
        if expected:
            wanted.set()
        return expected

    def close_late(name: str, loaded: LoadedModel, memory: DeviceMemory) -> None:
        wanted.wait(PATIENCE_S)
        close_session(name, loaded, memory)

    wanted, claim, is_expected = threading.Event(), DeviceMemory.claim, DeviceMemory.is_expected
    monkeypatch.setattr("workers.serving.loading.memory_in_use", silent)
    monkeypatch.setattr("workers.instance_controller.close_session", close_late)
    await site.register()
    await other.register()
    value, headers = site.value()
    async with (
        results_of(site) as results,
        results_of(other) as results_of_other,
        site.worker("cpu-0", memory_bytes=3 << 19),  # room for one and a half of them
    ):
        await site.place("cpu-0")
        await site.ask(producer, "q", value, headers)
        assert await answered(results, 1) == {"q": "ok"}
        monkeypatch.setattr(DeviceMemory, "claim", try_claim)
        monkeypatch.setattr(DeviceMemory, "is_expected", see_expected)
        await site.unplace("cpu-0")
        await other.place("cpu-0")
        await other.ask(producer, "r", value, headers)
        assert await answered(results_of_other, 1) == {"r": "ok"}
    assert "cannot load" not in caplog.text


async def test_stolen_partition_is_left_at_once(site: Site, producer: Producer) -> None:
    await site.register()
    value, headers = site.value()
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await site.ask(producer, "before", value, headers, partition=1)
        await results.until(1)
        epoch = await register_worker(site.pool, replace(a_worker("thief"), lease_ttl_s=3600.0))
        silence = "UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE name = 'cpu-0'"
        await site.pool.execute(silence)
        while not await acquire_leases(site.pool, "thief", epoch, site.variant, [1]):
            await site.pool.execute(silence)  # it has sent a heartbeat in between
        async with Tail(site.kafka, "test-status", [topics.STATUS]) as tail:
            await _status_where(
                tail, "cpu-0", lambda status: [p.partition for i in status.instances for p in i.partitions] == [0]
            )
        await site.ask(producer, "stolen", value, headers, partition=1)
        await site.ask(producer, "kept", value, headers, partition=0)
        found = await results.until(2)
    assert set(found) == {"before", "kept"}


async def test_instance_without_kafka_retries_and_others_serve(
    site: Site, producer: Producer, kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    late = Site(kafka, database, store_pool, tmp_path)
    await site.register()
    await late.register()
    value, headers = site.value()
    async with (
        entrance(kafka) as (door, site.kafka),
        results_of(site) as results,
        results_of(late) as late_results,
        site.worker("cpu-0"),
    ):
        await site.place("cpu-0")
        await site.ask(producer, "before", value, headers)
        await results.until(1)
        door.open = False
        await late.place("cpu-0")
        await late.ask(producer, "late", value, headers)
        async with asyncio.timeout(100):
            await door.refused.wait()
        await site.ask(producer, "meanwhile", value, headers)
        assert await answered(results, 2) == {"before": "ok", "meanwhile": "ok"}
        door.open = True
        assert await answered(late_results, 1) == {"late": "ok"}


async def test_query_with_unequal_part_outputs_fails_alone(site: Site, producer: Producer, tmp_path: Path) -> None:
    await site.register(await asyncio.to_thread(ragged_model, tmp_path / "ragged.onnx"))
    images = np.ones((2 * MAX_BATCH, 1, 8, 8), np.float32)
    even = encode_request({"input": images})
    images[-1] = 3.0
    ragged = encode_request({"input": images})
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        for name, request in (("ragged", ragged), ("even", even)):
            headers = [(h.JSON_LENGTH, str(request.json_length).encode()), (h.BATCH, b"%d" % len(images))]
            await site.ask(producer, name, request.value, headers)
        found = await results.until(2)
    assert {name: result.status for name, result in found.items()} == {"ragged": "model_failed", "even": "ok"}
    assert "2 batches do not fit together" in error_message(found["ragged"].value)


async def test_input_that_model_rejects_is_client_error(site: Site, producer: Producer, tmp_path: Path) -> None:
    await site.register(await asyncio.to_thread(picky_model, tmp_path / "picky.onnx"))
    images = np.ones((1, 1, 8, 8), np.float32)
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        for name, brightest in (("alone", 9.0), ("good", 1.0), ("beside", 7.0)):
            request = encode_request({"input": brightest * images})
            await site.ask(producer, name, request.value, [(h.JSON_LENGTH, str(request.json_length).encode())])
        found = await results.until(3)
    assert {name: result.status for name, result in found.items()} == {
        "alone": "invalid_request", "good": "ok", "beside": "invalid_request",
    }  # fmt: skip
    said = error_message(found["alone"].value)
    assert "indices element out of data bounds, idx=9" in said
    assert "onnxruntime" not in said.lower()


async def test_internal_error_fails_only_its_query(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = InstanceMetrics.count_result

    def defective(self: InstanceMetrics, query: PendingQuery, now_s: float, *, late: bool) -> None:
        if query.batch == 3:
            raise ValueError("a defect")
        counted(self, query, now_s, late=late)

    monkeypatch.setattr(InstanceMetrics, "count_result", defective)
    await site.register()
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        for count in (3, 2):
            value, headers = site.value(0, count)
            await site.ask(producer, f"of {count}", value, headers)
        assert await answered(results, 2) == {"of 3": "internal", "of 2": "ok"}
