"""Tests of batch jobs over topics: records become rows of chunks, and each gets an answer in kind or a failure."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from broker.delivery.exactly_once import OutgoingRecord
from broker.kafka.types import Record
from infaas.batch.asker import ChunkFunction
from infaas.batch.limits import BatchLimits
from infaas.batch.rows import Chunk, ChunkResult, FailedRow, OutputRows
from infaas.batch.sink import Progress
from infaas.batch.topic_job import TopicBatchJob, TopicLag, TopicOutput
from infaas.batch.topic_records import AnsweredRecord, DeletedRow, FailedRecord, Outcome, RecordChunk
from schemas.errors import OperatorError
from schemas.oip import decode_response, encode_request
from schemas.rows.catalog import TensorSpec
from tests.waiting import PATIENCE_S

INPUT = TensorSpec(name="input", datatype="FP32", shape=(-1, 2))
TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
Headers = Sequence[tuple[str, bytes]]


def record(value: bytes | None, offset: int = 0, key: bytes | None = None, headers: Headers = ()) -> Record:
    return Record("in", 1, offset, 0, 1, key, value, tuple(headers))


def request(*rows: list[float], binary: bool = False, **more: Any) -> tuple[bytes, Headers]:
    message = encode_request({"input": np.array(rows, np.float32)}, binary=binary, **more)
    headers = [("content-type", message.content_type.encode())]
    if message.json_length is not None:
        headers.append(("inference-header-content-length", str(message.json_length).encode()))
    return message.value, headers


def doubled(chunk: Chunk, failed: Sequence[FailedRow] = (), split: int | None = None) -> ChunkResult:
    """Return the answers to a chunk: inputs times two, without failed rows, in two parts if `split` is set."""
    lost, parts = {row.number for row in failed}, list[OutputRows]()
    for rows in chunk.rows:
        kept = np.array([number not in lost for number in rows.numbers])
        numbers, values = rows.numbers[kept], rows.inputs["input"][kept] * 2
        for part in (slice(None, split), slice(split, None)) if split else (slice(None),):
            parts.append(OutputRows(numbers[part], {"twice": values[part]}, (), "a-variant"))
    return ChunkResult(tuple(parts), (*chunk.unreadable, *failed), chunk.end)


def answers(chunk: RecordChunk, result: ChunkResult) -> list[Any]:
    """Return the answer to each record: outputs as lists, or the code of its failure."""
    found = list[Any]()
    for outcome in chunk.outcomes(result):
        assert not isinstance(outcome, DeletedRow)
        if isinstance(outcome, FailedRecord):
            found.append(str(outcome.code))
        elif outcome.answer.value.startswith(b'{"model_name"'):
            found.append(decode_response(*outcome.answer[:2]).outputs["twice"].tolist())
        else:
            found.append(json.loads(outcome.answer.value)["twice"])
    return found


def test_record_chunk_answers_records_of_every_form_in_kind() -> None:
    binary, described = request([5, 6], [7, 8], binary=True)
    records = [
        record(b'{"input": [1, 2], "id": "passed over"}'),
        record(request([3, 4])[0]),
        record(binary, headers=described),
        record(b"[9, 10]"),
    ]
    chunk = RecordChunk(records, 4, [INPUT])
    (rows,) = chunk.chunk().rows
    assert rows.numbers.tolist() == [0, 1, 2, 2, 3]
    assert answers(chunk, doubled(chunk.chunk())) == [[2, 4], [[6, 8]], [[10, 12], [14, 16]], [18, 20]]


def test_record_chunk_fails_only_unreadable_records() -> None:
    values = [None, b"\xff", b'{"other": 1}', b'{"input": [1]}', b'{"inputs": [{"name": 1}]}', b'{"input": [1, 2]}']
    chunk = RecordChunk([record(value) for value in values], 6, [INPUT])
    assert answers(chunk, doubled(chunk.chunk())) == ["invalid_request"] * 5 + [[2, 4]]


def test_record_chunk_separates_shapes() -> None:
    chunk = RecordChunk([record(request([1, 2])[0]), record(request([1, 2, 3])[0])], 2, [INPUT])
    assert [rows.numbers.tolist() for rows in chunk.chunk().rows] == [[0], [1]]
    assert answers(chunk, doubled(chunk.chunk())) == [[[2, 4]], [[2, 4, 6]]]


def test_record_chunk_fails_whole_record_of_failed_row() -> None:
    chunk = RecordChunk([record(request([number, 0], [0, number])[0]) for number in range(3)], 3, [INPUT])
    failed = [FailedRow(1, "model_failed", "no")]
    assert answers(chunk, doubled(chunk.chunk(), failed, split=3)) == [
        [[0, 0], [0, 0]],
        "model_failed",
        [[4, 0], [0, 4]],
    ]


def test_record_chunk_reads_plain_text_as_a_row() -> None:
    chunk = RecordChunk([record(b"a text", headers=[("content-type", b"text/plain")])], 1, [TEXT])
    (rows,) = chunk.chunk().rows
    assert rows.inputs["text"].tolist() == [b"a text"]


ROW = b'{"id": 12345678901234567890.10, "input": [1, 2], "name": "\xc3\xa9"}'


@pytest.mark.parametrize(
    ("value", "answer_only", "wanted"),
    [
        (ROW, False, '{"id":12345678901234567890.10,"input":[1, 2],"name":"é","twice":[2.0,4.0]}'),
        (b'{"op": "c", "before": null, "after": %b}' % ROW, True, '{"twice":[2.0,4.0]}'),
        (b'{"input": [1, 2], "twice": 5}', False, '{"input":[1, 2],"twice":5,"outputs.twice":[2.0,4.0]}'),
    ],
)
def test_record_chunk_answers_with_the_row(value: bytes, answer_only: bool, wanted: str) -> None:
    chunk = RecordChunk([record(value)], 1, [INPUT], answer_only=answer_only)
    (found,) = chunk.outcomes(doubled(chunk.chunk()))
    assert isinstance(found, AnsweredRecord)
    assert found.answer.value.decode() == wanted


def test_record_chunk_fails_row_that_leaves_no_name_to_an_output() -> None:
    chunk = RecordChunk([record(b'{"input": [1, 2], "twice": 5, "outputs.twice": 6}')], 1, [INPUT])
    (found,) = chunk.outcomes(doubled(chunk.chunk()))
    assert isinstance(found, FailedRecord)
    assert "no name is left for the output" in found.reason


DELETION = b'{"op": "d", "before": {"input": [1, 2]}, "after": null}'


def test_record_chunk_asks_nothing_for_deleted_rows() -> None:
    values = [DELETION, None, b'{"input": [1, 2]}', None]
    records = [record(value, key=b"7" if offset < 3 else None) for offset, value in enumerate(values)]
    chunk = RecordChunk(records, 4, [INPUT])
    (rows,) = chunk.chunk().rows
    assert rows.numbers.tolist() == [2]
    first, second, third, last = chunk.outcomes(doubled(chunk.chunk()))
    assert (first, second) == (DeletedRow(records[0]), DeletedRow(records[1]))
    assert isinstance(third, AnsweredRecord)
    assert isinstance(last, FailedRecord)
    assert "it has no key" in last.reason


def test_record_chunk_fails_record_with_unknown_output() -> None:
    chunk = RecordChunk([record(request([1, 2], outputs=["absent"])[0])], 1, [INPUT])
    assert answers(chunk, doubled(chunk.chunk())) == ["invalid_request"]


def output(headers: frozenset[str] | None = None, partitions: int = 4, max_bytes: int = 1 << 20) -> TopicOutput:
    counts = {"in": 4, "out": partitions, "failed": 1}
    return TopicOutput(topic="out", failed_topic="failed", partitions=counts, headers=headers, max_bytes=max_bytes)


def outcome(asked: Record) -> Outcome:
    chunk = RecordChunk([asked], 1, [INPUT])
    return chunk.outcomes(doubled(chunk.chunk()))[0]


@pytest.mark.parametrize(("chosen", "carried"), [(None, {"trace", "more"}), (frozenset({"more"}), {"more"})])
def test_topic_output_keeps_key_and_chosen_headers(chosen: frozenset[str] | None, carried: set[str]) -> None:
    headers = [("trace", b"1"), ("more", b"2"), ("infaas-latency-ms", b"5"), ("content-type", b"application/json")]
    told = output(chosen).record(outcome(record(b"[1, 2]", 7, b"key", headers)))
    assert (told.topic, told.partition, told.key, told.value) == ("out", 1, b"key", b'{"twice":[2.0,4.0]}')
    found = dict(told.headers)
    assert found.pop("infaas-id") == b"in-1-7"
    assert found.pop("content-type") == b"application/json"
    assert {found.pop("infaas-status"), found.pop("infaas-variant")} == {b"ok", b"a-variant"}
    assert found.keys() == carried


@pytest.mark.parametrize("value", [None, DELETION])
def test_topic_output_passes_deletion_on_as_tombstone(value: bytes | None) -> None:
    headers = [("trace", b"1"), ("infaas-latency-ms", b"5")]
    told = output().record(outcome(record(value, 7, b"key", headers)))
    assert (told.topic, told.partition, told.key, told.value) == ("out", 1, b"key", None)
    assert dict(told.headers) == {"trace": b"1", "infaas-id": b"in-1-7", "infaas-status": b"ok"}


def test_topic_output_keeps_failed_record_with_reason() -> None:
    told = output().record(outcome(record(b"nothing", 7, b"key", [("trace", b"1"), ("infaas-id", b"mine")])))
    assert (told.topic, told.partition, told.key, told.value) == ("failed", None, b"key", b"nothing")
    found = dict(told.headers)
    assert found["infaas-status"] == b"invalid_request"
    assert found["infaas-dead-reason"]
    place = [found[f"infaas-dead-{name}"] for name in ("topic", "partition", "offset")]
    assert place == [b"in", b"1", b"7"]
    assert (found["trace"], found["infaas-id"]) == (b"1", b"mine")
    assert dict(output().record(outcome(record(b"nothing", 7))).headers)["infaas-id"] == b"in-1-7"


def test_topic_output_keeps_id_of_record() -> None:
    told = output().record(outcome(record(b"[1, 2]", headers=[("infaas-id", b"mine")])))
    assert dict(told.headers)["infaas-id"] == b"mine"


@pytest.mark.parametrize(("key", "partition"), [(None, 1), (b"key", None)])
def test_topic_output_partitions_by_key_if_counts_differ(key: bytes | None, partition: int | None) -> None:
    assert output(partitions=3).record(outcome(record(b"[1, 2]", key=key))).partition == partition


def test_topic_output_fails_record_with_oversized_answer() -> None:
    told = output(max_bytes=1100).record(outcome(record(b"[1, 2]")))
    assert told.topic == "failed"
    assert b"INFAAS_KAFKA_MAX_RECORD_BYTES" in dict(told.headers)["infaas-dead-reason"]


def test_topic_output_shortens_large_failed_record() -> None:
    large = record(b"x" * 4000, 7, b"key", [("infaas-reply-stream", b"a secret")])
    told = output(max_bytes=4096).record(outcome(large))
    assert (told.topic, told.key) == ("failed", b"key")
    assert told.value is not None
    assert 0 < len(told.value) < 4000
    found = dict(told.headers)
    assert found["infaas-dead-shortened"] == b"4003"
    assert found["infaas-dead-reason"]
    assert "infaas-reply-stream" not in found
    assert len(told.value) + sum(len(name) + len(value) for name, value in told.headers) < 4096


class OnePartition:
    """Topic of one partition, owned by the job, and the records that are written for it."""

    group = "a group"
    ours = 1
    begin = 0
    partition = TopicPartition("in", 1)

    def __init__(self, values: Sequence[bytes], key: bytes | None = None) -> None:
        self._records = [record(value, offset, key) for offset, value in enumerate(values)]
        self._position = self._committed = 0
        self.written = list[OutgoingRecord]()

    async def ends(self) -> dict[TopicPartition, int]:
        return {self.partition: len(self._records)}

    async def left(self, ends: Mapping[TopicPartition, int]) -> int:
        return ends[self.partition] - self._committed

    async def run(self, work: Callable[[Any], Awaitable[None]]) -> None:
        await work(self)
        await asyncio.Event().wait()

    async def read(self, most: int) -> tuple[list[Record], int]:
        found = self._records[self._position : self._position + most]
        self._position += len(found)
        return found, self._position

    async def write(self, records: Sequence[OutgoingRecord], next_offset: int) -> None:
        self.written += records
        self._committed = next_offset

    def looked(self, lag: TopicLag, progress: Progress) -> None:
        pass


def topic_job(topic: Any, answer: ChunkFunction, limits: BatchLimits) -> TopicBatchJob:
    return TopicBatchJob(topic, output(), [INPUT], answer, limits=limits, chunk_records=2, follow=False, observer=topic)


async def test_topic_job_costs_as_much_as_its_rows() -> None:
    topic = OnePartition([request(*[[1.0, 2.0]] * 10)[0]] * 20)

    async def answer(chunk: Chunk) -> ChunkResult:
        return replace(doubled(chunk), cost=float(chunk.size))

    done = await topic_job(topic, answer, BatchLimits(max_cost=250, in_flight=2)).run(asyncio.Event())
    assert (done.answered, done.cost, len(topic.written)) == (20, 200.0, 20)


async def test_topic_job_counts_deleted_rows_as_answered() -> None:
    topic = OnePartition([DELETION] * 3 + [b"[1, 2]"], key=b"7")

    async def answer(chunk: Chunk) -> ChunkResult:
        return doubled(chunk)

    done = await topic_job(topic, answer, BatchLimits()).run(asyncio.Event())
    assert (done.answered, done.failed) == (4, 0)
    assert [one.value for one in topic.written] == [None] * 3 + [b'{"twice":[2.0,4.0]}']


async def test_topic_job_ends_at_deadline_without_answer() -> None:
    async def answer(_: Chunk) -> ChunkResult:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(OperatorError, match="until --deadline are over after 0 rows"):
        async with asyncio.timeout(PATIENCE_S):
            await topic_job(OnePartition([b"[1, 2]"]), answer, BatchLimits(deadline_s=0.01)).run(asyncio.Event())
