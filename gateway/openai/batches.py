"""Routes of batches: `/v1/batches`. They only store and show batches; `batch_keeper` does the work."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from gateway.http.answers import error_answer, json_response
from gateway.http.authorization import owner_of, principal_of
from gateway.http.bodies import RequestBodies
from gateway.http.job_requests import new_id
from gateway.openai.batch_keeper import BatchKeeper
from gateway.openai.embeddings import read_json
from gateway.openai.pages import epoch_s, page_of
from schemas.errors import ErrorCode, InvalidRequest
from schemas.openai import BatchErrors, BatchRequest, BatchStatus, OpenAiBatch, OpenAiBatches, RequestCounts
from schemas.rows.batches import BatchRow
from store import batches as stored
from store.batches import NewBatch
from store.pool import Pool

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,4})([smh])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_LONGEST_S: Final = 24 * 3600
_MOST_METADATA: Final = 16
_MOST_KEY: Final = 64
_MOST_VALUE: Final = 512
_batches: Final = msgspec.json.Decoder(BatchRequest)


class BatchRoutes:
    """Handlers of batches: create, list, show, cancel."""

    def __init__(self, pool: Pool, bodies: RequestBodies, keeper: BatchKeeper) -> None:
        self._pool = pool
        self._bodies = bodies
        self._keeper = keeper

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.post("/v1/batches", self.create),
            web.get("/v1/batches", self.list),
            web.get("/v1/batches/{id}", self.show),
            web.post("/v1/batches/{id}/cancel", self.cancel),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Store a batch; its file is validated later."""
        async with self._bodies.reading(request.content, request.headers) as body:
            asked = read_batch_request(body)
        batch = NewBatch(
            new_id("batch_"),
            principal_of(request),
            asked.input_file_id,
            asked.endpoint,
            asked.completion_window,
            window_s(asked.completion_window),
            asked.metadata,
        )
        if not asked.input_file_id.isprintable() or not await stored.put_batch(self._pool, owner_of(request), batch):
            raise InvalidRequest(f"$.input_file_id: there is no file {asked.input_file_id[:80]!r}")
        self._keeper.wake()
        return json_response(openai_batch(await self._row(request, batch.id)))

    async def list(self, request: web.Request) -> web.Response:
        """Answer with a page of batches, the latest first."""
        limit, after = page_of(request.query)
        rows = await self._list(request, after=after, limit=limit + 1)
        shown = [openai_batch(row) for row in rows[:limit]]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return json_response(OpenAiBatches(data=shown, first_id=first, last_id=last, has_more=len(rows) > limit))

    async def show(self, request: web.Request) -> web.Response:
        """Answer with a batch."""
        return json_response(openai_batch(await self._row(request, request.match_info["id"])))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a batch; idempotent while it is cancelled."""
        row = await self._row(request, request.match_info["id"])
        await stored.cancel_batch(self._pool, row.id)
        self._keeper.wake()
        row = await self._row(request, row.id)
        if row.cancelled_at is None:
            message = f"{row.id} is {row.status} already: there is nothing to cancel"
            return error_answer(409, ErrorCode.INVALID_REQUEST, message).response()
        return json_response(openai_batch(row))

    async def _row(self, request: web.Request, batch_id: str) -> BatchRow:
        rows = await self._list(request, batch_id=batch_id) if batch_id.isprintable() else []
        if not rows:
            raise web.HTTPNotFound(reason="there is no such batch")
        return rows[0]

    async def _list(
        self, request: web.Request, *, batch_id: str | None = None, after: str | None = None, limit: int = 1
    ) -> Sequence[BatchRow]:
        """List the batches that the caller sees: its tenant's, of the tasks that its key permits."""
        owner, tasks = owner_of(request), principal_of(request).tasks
        return await stored.list_batches(self._pool, owner, batch_id=batch_id, tasks=tasks, after=after, limit=limit)


def read_batch_request(body: bytes) -> BatchRequest:
    """Read a request for a batch.

    Raises:
        InvalidRequest: it is invalid; the message names the field.
    """
    request: BatchRequest = read_json(body, _batches)
    window_s(request.completion_window)
    metadata = request.metadata or {}
    if len(metadata) > _MOST_METADATA or any(
        len(key) > _MOST_KEY or len(value) > _MOST_VALUE or "\0" in key + value for key, value in metadata.items()
    ):
        raise InvalidRequest(
            f"$.metadata: at most {_MOST_METADATA} pairs, of {_MOST_KEY} and {_MOST_VALUE} characters without NUL"
        )
    return request


def window_s(text: str) -> int:
    """Return the seconds of a completion window.

    Raises:
        InvalidRequest: it is no duration of at most a day.
    """
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidRequest(
            f"$.completion_window: a duration of at most a day, such as 24h, 90m or 45s, not {text[:20]!r}"
        )
    return seconds


def openai_batch(row: BatchRow) -> OpenAiBatch:
    """Return the description of a batch."""

    def ended_as(*statuses: BatchStatus) -> int | None:
        return _epoch_s(row.ended_at) if row.status in statuses else None

    return OpenAiBatch(
        id=row.id,
        endpoint=row.endpoint,
        errors=BatchErrors(data=row.errors) if row.errors else None,
        input_file_id=row.input_file,
        completion_window=row.completion_window,
        status=row.status,
        output_file_id=row.output_file,
        error_file_id=row.error_file,
        created_at=epoch_s(row.created_at),
        in_progress_at=_epoch_s(row.started_at),
        expires_at=epoch_s(row.deadline_at),
        finalizing_at=_epoch_s(row.finalized_at),
        completed_at=ended_as(BatchStatus.COMPLETED),
        failed_at=ended_as(BatchStatus.FAILED),
        expired_at=ended_as(BatchStatus.EXPIRED),
        cancelling_at=_epoch_s(row.cancelled_at),
        cancelled_at=ended_as(BatchStatus.CANCELLED),
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        metadata=row.metadata,
    )


def _epoch_s(at: datetime | None) -> int | None:
    return None if at is None else epoch_s(at)
