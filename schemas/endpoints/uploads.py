"""Upload endpoints of the admin API: files to register, identified by the SHA-256 of their content."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Empty, Endpoint
from schemas.principal import Role
from schemas.registrations import SHA256
from schemas.rows.registrations import Upload

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


SEND: Final = Endpoint(
    name="uploads.send",
    method="PUT",
    path="/v1/uploads/{sha256}",
    role=Role.PUBLISH,
    request=UploadRequest,
    result=Upload,
    summary="Upload a file as the body, with its length; a file that exists already is not read again.",
)
"""The only endpoint whose body is a file. It is not in `ENDPOINTS`, whose requests are JSON."""
SHOW: Final = Endpoint(
    name="uploads.show",
    method="GET",
    path="/v1/uploads/{sha256}",
    role=Role.PUBLISH,
    request=UploadRequest,
    result=Upload,
    summary="Check that a file has been uploaded by the caller's tenant.",
)
LIST: Final = Endpoint(
    name="uploads.list",
    method="GET",
    path="/v1/uploads",
    role=Role.PUBLISH,
    request=Empty,
    result=Uploads,
    summary="List the stored uploads of the caller's tenant.",
)
UPLOADS: Final = (SHOW, LIST)
