"""Uploaded files. They belong to the caller's tenant; callers without a tenant share theirs."""

import asyncio
from typing import Final

from admin.binding import bind
from admin.control import RequestContext
from registry.artifact_settings import open_uploads
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.uploads import LIST, SHOW, UploadRequest, Uploads
from schemas.errors import NotFound
from schemas.rows.registrations import Upload
from store.uploads import get_upload, list_uploads, upload_bytes


async def show(control: RequestContext, request: UploadRequest) -> Upload:
    """Return an upload.

    Raises:
        NotFound: the upload is incomplete, or its file is missing from the store.
    """
    row = await get_upload(control.pool, control.principal.tenant or "", request.sha256)
    if row is None or not row.arrived or not await asyncio.to_thread(_is_kept, control, request.sha256):
        raise NotFound(f"there is no upload {request.sha256}")
    return row


def _is_kept(control: RequestContext, sha256: str) -> bool:
    return open_uploads(control.artifacts, control.home).has(sha256)


async def list_all(control: RequestContext, _request: Empty) -> Uploads:
    """List the uploads of a tenant."""
    tenant = control.principal.tenant or ""
    files = await list_uploads(control.pool, tenant)
    return Uploads(files=tuple(files), bytes=await upload_bytes(control.pool, tenant))


BINDINGS: Final = (bind(SHOW, show), bind(LIST, list_all))
