"""Records of a partition as a chunk of rows; rows of the same shape form one query, whatever their format.

A record that is a request of several rows becomes several rows with the same number, and fails as a whole.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from broker.kafka_types import Record
from infaas.batch.rows import Chunk, ChunkResult, FailedRow
from infaas.batch.sources.chunking import ReadRow, chunk_of
from infaas.batch.topics.record_query import RecordQuery, read_query, write_answer
from schemas.errors import ErrorCode, InvalidRequest
from schemas.oip import EncodedMessage
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array


class AnsweredRecord(NamedTuple):
    """A record with its answer."""

    record: Record
    answer: EncodedMessage
    variant: str


class FailedRecord(NamedTuple):
    """A record that failed, with the reason."""

    record: Record
    code: str
    reason: str


class RecordChunk:
    """Consecutive records of a partition; `next_offset` is the offset after them."""

    def __init__(self, records: Sequence[Record], next_offset: int, signature: Sequence[TensorSpec]) -> None:
        self.records = records
        self.next_offset = next_offset
        self._queries = [_read(record, signature) for record in records]

    def chunk(self) -> Chunk:
        """Return the rows of all records, grouped by shape; a row's number is the index of its record."""
        rows = [
            ReadRow(number, query, 0, {})
            if isinstance(query, InvalidRequest)
            else ReadRow(number, query.inputs, 0, {}, rows=query.rows)
            for number, query in enumerate(self._queries)
        ]
        return chunk_of(rows) if rows else Chunk((), {})

    def outcomes(self, result: ChunkResult) -> list[AnsweredRecord | FailedRecord]:
        """Return the outcome of each record, in order."""
        failed = {row.number: row for row in reversed(result.failed)}
        parts = defaultdict[int, list[tuple[dict[str, Array], str]]](list)
        for rows in result.answered:
            numbers, starts, counts = np.unique(rows.numbers, return_index=True, return_counts=True)
            for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
                some = {name: array[start : start + count] for name, array in rows.outputs.items()}
                parts[number].append((some, rows.variant))
        return [self._outcome(number, failed.get(number), parts[number]) for number in range(len(self.records))]

    def _outcome(
        self, number: int, failed: FailedRow | None, parts: list[tuple[dict[str, Array], str]]
    ) -> AnsweredRecord | FailedRecord:
        record, query = self.records[number], self._queries[number]
        if failed is not None or isinstance(query, InvalidRequest):
            code, reason = (failed.code, failed.reason) if failed else (ErrorCode.INVALID_REQUEST, str(query))
            return FailedRecord(record, code, reason)
        outputs, variant = parts[0]
        if len(parts) > 1:  # rows of one request were sent separately, because other rows of the query failed
            outputs = {name: np.concatenate([some[name] for some, _ in parts]) for name in outputs}
        try:
            return AnsweredRecord(record, write_answer(query, outputs, variant), variant)
        except InvalidRequest as error:
            return FailedRecord(record, error.code, str(error))


def _read(record: Record, signature: Sequence[TensorSpec]) -> RecordQuery | InvalidRequest:
    try:
        return read_query(record, signature)
    except InvalidRequest as error:
        return error
