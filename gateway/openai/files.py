"""Routes of files: `/v1/files`. A file is a name for an upload, which is stored where uploads for registrations are.

An upload over OpenAI's API is a multipart form. Its file is hashed while it is written, in pieces of one MiB, each of
which must arrive in time. Number and size of a tenant's uploads, and concurrent uploads, are limited as for
registrations. A file belongs to its tenant; without a tenant, to clients without one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from aiohttp import BodyPartReader, web

from gateway.auth.authenticator import tenant_of_request
from gateway.http.answers import json_response
from gateway.http.authorization import owner_of, principal_of
from gateway.http.job_requests import new_id
from gateway.http.uploads import upload_limit
from gateway.openai.pages import epoch_s, page_of
from gateway.settings import GatewaySettings
from process.threads import in_thread
from registry.artifacts import ArtifactStore, IncomingArtifact
from schemas.errors import InvalidRequest, OperatorError, Overloaded, QuotaExceeded, RefusalReason
from schemas.openai import BATCH, DeletedFile, OpenAiFile, OpenAiFiles
from schemas.rows.batches import FileRow
from store import batches as stored
from store.pool import Pool
from store.uploads import upload_arrived

log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 1 << 20
_NAME: Final = 255
_FIELD_BYTES: Final = 1000
_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
_CREATED: Final = "created_at"
_FIELDS: Final = ("purpose", _ANCHOR, _SECONDS)
_LEAST_KEPT_S: Final = 3600
_LISTED: Final = ("purpose", "order")


class _Form(NamedTuple):
    """Content of an upload."""

    name: str
    sha256: str
    size: int
    kept_s: float


class FileRoutes:
    """Handlers of files: upload, list, show, content, delete."""

    def __init__(self, settings: GatewaySettings, pool: Pool, store: Callable[[], ArtifactStore]) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._uploads = upload_limit(settings.max_uploads)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.post("/v1/files", self.upload),
            web.get("/v1/files", self.list),
            web.get("/v1/files/{id}", self.show),
            web.get("/v1/files/{id}/content", self.content),
            web.delete("/v1/files/{id}", self.delete),
        ]

    async def upload(self, request: web.Request) -> web.Response:
        """Store the file of a form, and answer with its description."""
        if request.content_type != "multipart/form-data":
            raise web.HTTPUnsupportedMediaType(reason="send the file in a form, as multipart/form-data")
        if request.content_length is not None:
            self._check_size(request.content_length - _PIECE_BYTES)  # a form is a little larger than its file
        if request.headers.get("Content-Encoding") is not None:
            raise web.HTTPUnsupportedMediaType(reason="send the form as it is, without a Content-Encoding")
        tenant = tenant_of_request(principal_of(request), request.headers) or ""
        with self._uploads.taken(tenant):
            row = await self._take(request, tenant)
        return json_response(openai_file(row))

    async def list(self, request: web.Request) -> web.Response:
        """Answer with a page of files."""
        limit, after = page_of(request.query, *_LISTED)
        order = request.query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InvalidRequest("$.order: the order is asc or desc")
        rows = await stored.list_files(
            self._pool,
            owner_of(request),
            purpose=request.query.get("purpose"),
            after=after,
            oldest_first=order == "asc",
            limit=limit + 1,
        )
        shown = [openai_file(row) for row in rows[:limit]]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return json_response(OpenAiFiles(data=shown, first_id=first, last_id=last, has_more=len(rows) > limit))

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the description of a file."""
        return json_response(openai_file(await self._find(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a file that no batch reads; its content is deleted when nothing refers to it for a day."""
        row = await self._find(request)
        if not await stored.delete_file(self._pool, row.id):
            raise InvalidRequest(f"{row.id} is read by a batch that has not ended: cancel the batch first")
        return json_response(DeletedFile(id=row.id))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Answer with the content of a file, in pieces."""
        return await self.send(request, await self._find(request))

    async def send(self, request: web.Request, row: FileRow, headers: Mapping[str, str] = {}) -> web.StreamResponse:
        """Answer with the content of a file and further headers."""
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", **headers})
        response.content_length = row.bytes
        async with in_thread(self._store().held(row.sha256)) as file:
            with await asyncio.to_thread(file.open, "rb") as content:
                await response.prepare(request)
                while piece := await asyncio.to_thread(content.read, _PIECE_BYTES):
                    await response.write(piece)
        await response.write_eof()
        return response

    async def _find(self, request: web.Request) -> FileRow:
        return await self.find(request.match_info["id"], owner_of(request))

    async def find(self, file_id: str, owner: str | None) -> FileRow:
        """Return a file of a tenant, None: of any.

        Raises:
            HTTPNotFound: there is none.
        """
        rows = await stored.list_files(self._pool, owner, file_id=file_id) if file_id.isprintable() else []
        if not rows:
            raise web.HTTPNotFound(reason="there is no such file; it may have expired")
        return rows[0]

    async def _take(self, request: web.Request, tenant: str) -> FileRow:
        """Write the file of a form into the store, and store its row."""
        try:
            async with in_thread(self._store().receiving("an upload")) as incoming:
                form = await self._read_form(request, incoming)
                most = self._settings.max_uploads_bytes
                if await upload_arrived(self._pool, tenant, form.sha256, form.size, most) is None:
                    raise QuotaExceeded("the file would exceed the limit of your tenant's uploads; delete others")
                await asyncio.to_thread(incoming.keep)
        except OperatorError as error:
            log.warning("a file cannot be kept: %s", error)
            message = "the artifact store accepts no files at the moment; try again later"
            raise Overloaded(message, reason=RefusalReason.ARTIFACTS_UNAVAILABLE) from error
        args = (new_id("file-"), tenant, form.name, BATCH, form.sha256, form.kept_s)
        row = await stored.put_file(self._pool, *args)
        if row is None:
            message = "the upload was deleted meanwhile; send it again"
            raise Overloaded(message, reason=RefusalReason.ARTIFACTS_UNAVAILABLE)
        return row

    async def _read_form(self, request: web.Request, incoming: IncomingArtifact) -> _Form:
        fields, name, size = dict[str, str](), "", 0
        try:
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader):
                    raise InvalidRequest("a form within the form is not supported")
                if part.name == "file" and name:
                    raise InvalidRequest("$.file: a form has one file")
                if part.name == "file":
                    name, size = (part.filename or "file")[:_NAME], await self._write(part, incoming)
                elif part.name in _FIELDS:
                    fields[part.name] = (await self._piece(part, _FIELD_BYTES)).decode()
                else:
                    raise InvalidRequest(f"$.{(part.name or '')[:80]}: there is no such field of an upload")
        except (ValueError, AssertionError) as error:
            raise InvalidRequest(f"the form is not valid: {error}") from None
        if fields.get("purpose") != BATCH:
            raise InvalidRequest(f"$.purpose: files have the purpose {BATCH!r}")
        if not name or not name.isprintable():
            raise InvalidRequest("$.file: the form has no file with a name")
        return _Form(name, incoming.sha256, size, self._kept_s(fields))

    def _kept_s(self, fields: Mapping[str, str]) -> float:
        """Return the seconds for which a file is kept, as its form or the settings say."""
        if fields.get(_ANCHOR, _CREATED) != _CREATED:
            raise InvalidRequest(f"$.expires_after: the anchor is {_CREATED!r}")
        text = fields.get(_SECONDS)
        if text is None:
            return self._settings.file_retention_s
        if not (
            text.isascii() and text.isdigit() and _LEAST_KEPT_S <= int(text[:9]) <= self._settings.file_retention_s
        ):
            most = f"{self._settings.file_retention_s:.0f}"
            raise InvalidRequest(f"$.expires_after: give {_LEAST_KEPT_S} to {most} seconds, not {text[:20]!r}")
        return float(text)

    async def _write(self, part: BodyPartReader, incoming: IncomingArtifact) -> int:
        size = 0
        while piece := await self._piece(part, _PIECE_BYTES):
            size += len(piece)
            self._check_size(size)
            await asyncio.to_thread(incoming.write, piece)
        return size

    async def _piece(self, part: BodyPartReader, size: int) -> bytes:
        """Return the next `size` bytes of a part or more, or the rest; a part yields what has arrived."""
        pieces, got = list[bytes](), 0
        try:
            async with asyncio.timeout(self._settings.receive_timeout_s):
                while got < size and (some := await part.read_chunk(size)):
                    pieces.append(some)
                    got += len(some)
        except TimeoutError:
            reason = f"less than a MiB has arrived within {self._settings.receive_timeout_s:g} s"
            raise web.HTTPRequestTimeout(reason=reason) from None
        return b"".join(pieces)

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_file_bytes:
            raise web.HTTPRequestEntityTooLarge(self._settings.max_file_bytes, size)


def openai_file(row: FileRow) -> OpenAiFile:
    """Return the description of a file."""
    return OpenAiFile(
        id=row.id,
        bytes=row.bytes,
        created_at=epoch_s(row.created_at),
        expires_at=epoch_s(row.expires_at),
        filename=row.name,
        purpose=row.purpose,
    )
