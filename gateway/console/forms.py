"""Bodies of forms: urlencoded texts, and multipart with files.

A multipart body is cut at its boundary and only the head of each part is parsed, so the time is that of a search in the
body, whatever its lines are. The number of parts is checked before any is read.
"""

from email import message_from_bytes
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from schemas.errors import InvalidRequest

TOKEN: Final = "token"
"""Field with the token of the form."""
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_MOST_FIELDS: Final = 1000
_MOST_HEAD_BYTES: Final = 8 * 1024
"""Maximum size of the head of a part."""


class Form(NamedTuple):
    """Content of a form."""

    fields: list[tuple[str, str]]
    """Fields in their order, without files and the token."""
    files: dict[str, bytes]
    """Contents of the chosen files by field; a field without a file is absent."""
    token: str

    def text(self, name: str) -> str:
        """Return the value of a field; empty if there is none."""
        return next((value for field, value in self.fields if field == name), "")


def read_form(content_type: str, body: bytes, *, files: bool = False) -> Form:
    """Read the body of a form.

    Args:
        content_type: type of the body.
        body: the body.
        files: true if the form may have files, and so a multipart body.

    Raises:
        InvalidRequest: the body is not that of a form.
    """
    fields, found = list[tuple[str, str]](), dict[str, bytes]()
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if files and kind == _MULTIPART:
            for name, content, is_file in _parts(content_type, body):
                if not is_file:
                    fields.append((name, content.decode()))
                elif content:
                    found[name] = content
        elif kind == _URLENCODED or not body:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        else:
            raise ValueError
    except (ValueError, LookupError, RecursionError):
        raise InvalidRequest("this is not the body of a form") from None
    token = next((value for name, value in fields if name == TOKEN), "")
    return Form([(name, value) for name, value in fields if name != TOKEN], found, token)


def _parts(content_type: str, body: bytes) -> list[tuple[str, bytes, bool]]:
    """Return name and content of each part, and true if it is a file."""
    boundary = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n").get_boundary()
    if not boundary:
        raise ValueError
    line = b"--" + boundary.encode()
    if body.count(line) > _MOST_FIELDS + 1:
        raise ValueError
    _, *parts = (b"\r\n" + body).split(b"\r\n" + line)
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError
    return [_part(part) for part in parts[:-1]]


def _part(part: bytes) -> tuple[str, bytes, bool]:
    if not part.startswith(b"\r\n"):
        raise ValueError
    end = part.find(b"\r\n\r\n")
    if not 0 < end <= _MOST_HEAD_BYTES:
        raise ValueError
    head = message_from_bytes(part[2:end] + b"\r\n\r\n")
    name = head.get_param("name", header="content-disposition")
    if not isinstance(name, str) or head.get_content_maintype() == "multipart":
        raise ValueError
    return name, part[end + 4 :], head.get_filename() is not None
