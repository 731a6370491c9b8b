"""Bodies of forms: urlencoded texts, and multipart with files."""

from email import message_from_bytes
from email.message import Message
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from schemas.errors import InvalidRequest

TOKEN: Final = "token"
"""Field with the token of the form."""
_MULTIPART: Final = "multipart/form-data"
_MOST_FIELDS: Final = 1000


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


def read_form(content_type: str, body: bytes) -> Form:
    """Read the body of a form.

    Raises:
        InvalidRequest: the body is not that of a form.
    """
    fields, files = list[tuple[str, str]](), dict[str, bytes]()
    try:
        if content_type.lower().startswith(_MULTIPART):
            for name, content, is_file in _parts(content_type, body):
                if not is_file:
                    fields.append((name, content.decode()))
                elif content:
                    files[name] = content
        else:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (ValueError, LookupError):
        raise InvalidRequest("this is not the body of a form") from None
    token = next((value for name, value in fields if name == TOKEN), "")
    return Form([(name, value) for name, value in fields if name != TOKEN], files, token)


def _parts(content_type: str, body: bytes) -> list[tuple[str, bytes, bool]]:
    """Return name and content of each part, and true if it is a file."""
    parts = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body).get_payload()
    if not isinstance(parts, list) or len(parts) > _MOST_FIELDS:
        raise ValueError
    return [_part(part) for part in parts if isinstance(part, Message)]


def _part(part: Message) -> tuple[str, bytes, bool]:
    name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
    if not isinstance(name, str) or not isinstance(content, bytes):
        raise ValueError
    return name, content, part.get_filename() is not None
