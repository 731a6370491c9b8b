"""Uploaded files. They belong to the caller's tenant; callers without a tenant share theirs."""

import asyncio
from typing import Annotated, Final

import msgspec

from admin.api import Empty, RequestContext, Route, endpoint
from registry.artifact_settings import open_uploads
from schemas.access import Role
from schemas.errors import NotFound
from schemas.registrations import SHA256
from schemas.rows.registrations import Upload
from store.uploads import get_upload, list_uploads, upload_bytes

Sha256 = Annotated[str, msgspec.Meta(pattern=f"^{SHA256}$", description="SHA-256 of the file's content, hexadecimal.")]


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one upload."""

    sha256: Sha256


class Uploads(msgspec.Struct, frozen=True, kw_only=True):
    """Uploads of a tenant."""

    files: tuple[Upload, ...]
    """Latest uploads, newest first, at most 1,000."""
    bytes: int
    """Total size of all the tenant's uploads in bytes."""


SEND: Final = Route(
    name="uploads.send",
    method="PUT",
    path="/v1/uploads/{sha256}",
    role=Role.PUBLISH,
    request=UploadRequest,
    result=Upload,
    summary="Upload a file as the body, with its length; a file that exists already is not read again.",
)
"""The only route whose body is a file: the gateway receives it, and the command line sends it, as a stream."""


@endpoint("uploads.show", "GET", "/v1/uploads/{sha256}", Role.PUBLISH)
async def show(context: RequestContext, request: UploadRequest) -> Upload:
    """Check that a file has been uploaded by the caller's tenant.

    Raises:
        NotFound: the upload is incomplete, or its file is missing from the store.
    """
    row = await get_upload(context.pool, context.principal.tenant or "", request.sha256)
    if row is None or not row.arrived or not await asyncio.to_thread(_is_kept, context, request.sha256):
        raise NotFound(f"there is no upload {request.sha256}")
    return row


def _is_kept(context: RequestContext, sha256: str) -> bool:
    return open_uploads(context.artifacts, context.home).has(sha256)


@endpoint("uploads.list", "GET", "/v1/uploads", Role.PUBLISH)
async def list_all(context: RequestContext, _request: Empty) -> Uploads:
    """List the stored uploads of the caller's tenant."""
    tenant = context.principal.tenant or ""
    files = await list_uploads(context.pool, tenant)
    return Uploads(files=tuple(files), bytes=await upload_bytes(context.pool, tenant))


UPLOADS: Final = (show, list_all)
