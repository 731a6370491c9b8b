"""A task asked for every row of something that can be looped over, the answers in the same order, in bounded memory.

    async with InfaasClient(kafka="127.0.0.1:9092") as client:
        async for row in infer_rows(client, "sentiment-text", rows, min_accuracy=0.8):
            print(row.number, row.outputs["label"] if row.error is None else row.error)

Rows are asked for offline unless `mode` says otherwise: when nothing else is to do.
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
    """What became of a row."""

    number: int
    """Position of the row, from 0 on."""
    outputs: Mapping[str, Any]
    """Values by output, of this row alone; empty where it failed."""
    variant: str = ""
    error: QueryError | None = None
    """Why it has no answer; other rows do."""


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
    """Ask for each row and yield what became of it, in their order.

    Rows are taken no faster than answers are taken from here: at most `in_flight` queries of `rows_per_query` rows are
    held. Where rows come one by one, a query waits `linger_s` for further ones.

    Raises:
        QueryError: nothing can answer what is asked, whatever the row.
        OperatorError: nothing was answered for very long.
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
