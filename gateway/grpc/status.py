"""Status with which a call ends, and its encoding as headers. Pure."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import grpc

from gateway.grpc.header_fields import RawFields

_UNCHANGED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_OK: Final = b"0"
_STATUS: Final = b"grpc-status"


class CallEnded(Exception):
    """A call ends with a status other than OK, with `metadata` in its trailers."""

    def __init__(self, status: grpc.StatusCode, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.metadata = metadata or {}


def ok_trailers(metadata: Mapping[str, str]) -> RawFields:
    """Return the trailers of a call that has succeeded."""
    return [(_STATUS, _OK), *_encoded(metadata)]


def error_trailers(end: CallEnded) -> RawFields:
    """Return the trailers of a call that has failed; the message is percent-encoded UTF-8."""
    fields: RawFields = [(_STATUS, b"%d" % end.status.value[0])]
    if text := str(end):
        fields.append((b"grpc-message", quote(text, safe=_UNCHANGED).encode()))
    return [*fields, *_encoded(end.metadata)]


def _encoded(metadata: Mapping[str, str]) -> RawFields:
    return [(name.encode(), text.encode()) for name, text in metadata.items()]
