"""Inference over all rows of an iterable, with answers in the same order and bounded memory.

    async with InfaasClient(kafka="127.0.0.1:9092") as client:
        async for row in infer_rows(client, "sentiment-text", rows, min_accuracy=0.8):
            print(row.number, row.outputs["label"] if row.error is None else row.error)

Queries are offline unless `mode` says otherwise: they are computed when workers are idle.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Unpack

from infaas.batch.asker import ChunkAsker, asking
from infaas.batch.limits import IN_FLIGHT
from infaas.batch.row_stream import InputRow, RowStream
from infaas.batch.rows import ChunkResult
from infaas.batch.window import AnswersInOrder
from infaas.client.client import InfaasClient, QueryOptions
from schemas.errors import InvalidRequest, QueryError, query_error

ROWS: Final = 256
LINGER_S: Final = 0.05


class RowAnswer(NamedTuple):
    """Result of one row."""

    number: int
    """Index of the row, from 0."""
    outputs: Mapping[str, Any]
    """Values of this row by output; empty if the row failed."""
    variant: str = ""
    error: QueryError | None = None
    """Reason why this row failed; None if it was answered."""


async def infer_rows(
    client: InfaasClient,
    task: str,
    rows: Iterable[InputRow] | AsyncIterable[InputRow],
    *,
    rows_per_query: int = ROWS,
    in_flight: int = IN_FLIGHT,
    linger_s: float = LINGER_S,
    **options: Unpack[QueryOptions],
) -> AsyncGenerator[RowAnswer]:
    """Query all rows and yield their results in order.

    Rows are read no faster than results are consumed: at most `in_flight` queries of `rows_per_query` rows are held. If
    rows arrive one by one, a query waits `linger_s` for more.

    Raises:
        QueryError: an error that affects all rows alike.
        OperatorError: nothing was answered for `PATIENCE_S`.
    """
    if "query_id" in options:
        raise InvalidRequest("infer_rows sends many queries: they cannot share one query_id")
    asker = ChunkAsker(asking(client, task, options))
    async with (
        RowStream(rows, rows_per_query, linger_s) as stream,
        AnswersInOrder(stream.chunks(), asker.answer, in_flight) as results,
    ):
        async for result in results:
            for answer in _answers(result):
                yield answer


def _answers(result: ChunkResult) -> list[RowAnswer]:
    answers = [RowAnswer(row.number, row.outputs, row.variant) for row in result.in_order()]
    if result.failed:
        failed = (RowAnswer(row.number, {}, error=query_error(row.code, row.reason)) for row in result.failed)
        answers = sorted([*answers, *failed], key=lambda answer: answer.number)
    return answers
