"""`PUT /v1/uploads/{sha256}`: streams a file to the store of artifacts, with limits of memory and time.

Rules:
* A file is identified by its content. A file that the tenant has already uploaded is not read again. Other content is
  hashed while it is written, and kept only if it matches its name. A client that does not know the outcome can
  therefore upload again.
* Its length is announced in advance and reserved. After its arrival it is counted again, and its row is marked as
  arrived before the file is kept. A tenant thus never exceeds its quota, and no file exists without a row by which it
  is cleaned up.
* Each upload holds one MiB in memory, the number of concurrent uploads is limited, and each MiB must arrive in time: a
  slow client loses its place. One tenant may use at most half of the places.
* Writes to Postgres wait in the same queue as other requests of tenants to the admin API, so that one connection
  remains for administrators.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import cached_property, partial
from typing import Final, TypeVar

import msgspec
from aiohttp import StreamReader, web

from admin.uploads import SEND
from gateway.auth.authenticator import require_role
from gateway.http.admin import AdminRoutes
from gateway.http.answers import HttpAnswer
from gateway.http.authorization import principal_of
from gateway.limits.connections import CallLimit
from gateway.settings import GatewaySettings
from process.threads import in_thread
from registry.artifact_settings import open_uploads
from registry.artifacts import ArtifactStore, IncomingArtifact
from schemas.access import Principal
from schemas.errors import InvalidRequest, OperatorError, Overloaded, QuotaExceeded, RefusalReason
from schemas.registrations import SHA256
from schemas.rows.registrations import Upload
from schemas.signature import JSON
from store.pool import Pool
from store.uploads import MOST_FILES, give_up_upload, reserve_upload, upload_arrived

log = logging.getLogger(__name__)

R = TypeVar("R")

_PIECE_BYTES: Final = 1 << 20
_SHA256: Final = re.compile(SHA256)
_GIB: Final = 1 << 30


def upload_limit(most: int) -> CallLimit:
    """Return the limit of `most` concurrent uploads, at most half of them of one tenant."""
    return CallLimit("uploads", most, max(most // 2, 1))


class UploadRoutes:
    """Handler of uploads.

    Args:
        settings: settings of the gateway.
        pool: connections to Postgres for the rows of uploads.
        turn: returns the context in which a principal may use a connection.
        artifacts: location of model files; empty for the default in the home folder.
    """

    def __init__(
        self, settings: GatewaySettings, pool: Pool, turn: Callable[[Principal], AbstractAsyncContextManager[None]],
        artifacts: str,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._pool = pool
        self._turn = turn
        self._artifacts = artifacts
        self._uploads = upload_limit(settings.max_uploads)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.route(SEND.method, SEND.path, self.send)]

    async def send(self, request: web.Request) -> web.Response:
        """Store the file of a request to the API."""
        AdminRoutes.check_open(self._settings, request, SEND)
        return await self.receive(request, principal_of(request))

    async def receive(self, request: web.Request, who: Principal) -> web.Response:
        """Store a caller's file and answer with its row: 201, or 200 if it exists already."""
        require_role(who, SEND.role)
        AdminRoutes.check_known(self._settings, who, SEND)
        sha256, size = request.match_info["sha256"], self._size(request)
        if not _SHA256.fullmatch(sha256):
            raise InvalidRequest(f"{sha256[:80]!r} is no SHA-256: name the upload by the hash of its content")
        tenant = who.tenant or ""
        most = self._settings.max_uploads_bytes
        row = await self._in_turn(who, partial(reserve_upload, self._pool, tenant, sha256, size, most))
        if row is None:
            raise self._too_much(size)
        if row.arrived and await asyncio.to_thread(self._store.has, sha256):
            return _answer(200, row)
        arrived = partial(self._in_turn, who, partial(upload_arrived, self._pool, tenant, sha256, size, most))
        try:
            with self._uploads.taken(tenant):
                row = await self._take(request.content, sha256, size, arrived)
        except BaseException:
            with suppress(Overloaded):  # the reservation expires later then
                await asyncio.shield(self._in_turn(who, partial(give_up_upload, self._pool, tenant, sha256)))
            raise
        return _answer(201, row)

    async def _in_turn(self, who: Principal, write: Callable[[], Awaitable[R]]) -> R:
        """Execute a write to Postgres in the caller's turn; raise `Overloaded` if the wait is too long."""
        try:
            async with asyncio.timeout(SEND.deadline_s), self._turn(who):
                return await write()
        except TimeoutError:
            message = "too many requests wait for Postgres; try again later"
            raise Overloaded(message, reason=RefusalReason.ADMIN_QUEUE) from None

    @cached_property
    def _store(self) -> ArtifactStore:
        return open_uploads(self._artifacts, self._settings.home)

    def _size(self, request: web.Request) -> int:
        if request.headers.get("Content-Encoding") is not None:
            raise web.HTTPUnsupportedMediaType(reason="send the file as it is, without a Content-Encoding")
        size = request.content_length
        if size is None:
            raise web.HTTPLengthRequired(reason="set Content-Length to the size of the file")
        if size > self._settings.max_upload_bytes:
            raise web.HTTPRequestEntityTooLarge(self._settings.max_upload_bytes, size)
        return size

    async def _take(
        self, content: StreamReader, sha256: str, size: int, arrived: Callable[[], Awaitable[Upload | None]]
    ) -> Upload:
        """Write the body into the store, and keep it if its hash matches."""
        try:
            async with in_thread(self._store.receiving(sha256)) as incoming:
                await self._write(content, incoming)
                if incoming.sha256 != sha256:
                    raise InvalidRequest(f"the received content has the SHA-256 {incoming.sha256}, not {sha256}")
                row = await arrived()
                if row is None:
                    raise self._too_much(size)
                await asyncio.to_thread(incoming.keep)
        except OperatorError as error:
            log.warning("an upload of %d bytes cannot be kept: %s", size, error)
            message = "the artifact store accepts no files at the moment; try again later"
            raise Overloaded(message, reason=RefusalReason.ARTIFACTS_UNAVAILABLE) from error
        return row

    async def _write(self, content: StreamReader, incoming: IncomingArtifact) -> None:
        while piece := await self._piece(content):
            await asyncio.to_thread(incoming.write, piece)

    async def _piece(self, content: StreamReader) -> bytes:
        """Return the next MiB, or the rest."""
        pieces, size = list[bytes](), 0
        try:
            async with asyncio.timeout(self._settings.receive_timeout_s):
                while size < _PIECE_BYTES and (some := await content.readany()):
                    pieces.append(some)
                    size += len(some)
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                reason=f"less than a MiB has arrived within {self._settings.receive_timeout_s:g} s"
            ) from None
        return b"".join(pieces)

    def _too_much(self, size: int) -> QuotaExceeded:
        return QuotaExceeded(
            f"these {size} bytes would exceed the limit of your tenant's uploads, "
            f"{self._settings.max_uploads_bytes / _GIB:g} GiB or {MOST_FILES} files; unused uploads are deleted "
            "after a day"
        )


def _answer(status: int, row: Upload) -> web.Response:
    headers = {"Content-Type": JSON, "Cache-Control": "no-store"}
    return HttpAnswer(status, headers, msgspec.json.encode(row)).response()
