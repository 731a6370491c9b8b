"""Files that are sent to be registered, each known by the SHA-256 of its content."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Nothing
from schemas.principal import Role
from schemas.registrations import SHA256
from schemas.rows.registrations import Upload

Sha256 = Annotated[str, msgspec.Meta(pattern=f"^{SHA256}$", description="SHA-256 of the file's content, hexadecimal.")]


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that is meant."""

    sha256: Sha256


class Uploads(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant has uploaded."""

    files: tuple[Upload, ...]
    """The latest first, a thousand at most."""
    bytes: int
    """Bytes of all of them."""


SEND: Final = Endpoint(
    name="uploads.send",
    method="PUT",
    path="/v1/uploads/{sha256}",
    role=Role.PUBLISH,
    request=UploadRequest,
    result=Upload,
    summary="Send a file, as the body, with its length; one that is there already is not read again.",
)
"""The one endpoint whose body is a file; it is in no table of those that take JSON."""
SHOW: Final = Endpoint(
    name="uploads.show",
    method="GET",
    path="/v1/uploads/{sha256}",
    role=Role.PUBLISH,
    request=UploadRequest,
    result=Upload,
    summary="Whether a file is there, sent by one's own tenant: it need not be sent again.",
)
LIST: Final = Endpoint(
    name="uploads.list",
    method="GET",
    path="/v1/uploads",
    role=Role.PUBLISH,
    request=Nothing,
    result=Uploads,
    summary="Files that one's own tenant has sent, and that are kept still.",
)
UPLOADS: Final = (SHOW, LIST)
