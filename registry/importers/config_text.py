"""Parser of protocol buffers in text form, such as Triton's `config.pbtxt`.

Each field is a list, since it may repeat.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from schemas.errors import InvalidRequest

_TOKEN: Final = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<word>[\w.+-]+)|(?P<mark>[{}\[\]<>:,;])"""
)
_DEEPEST: Final = 20
Message = dict[str, list[Any]]


def parse_config(text: str) -> Message:
    """Parse a message: words and strings as `str`, messages as dicts; raises `InvalidRequest` if it is malformed."""
    return _Reader(list(_tokens(text))).message(closing=None, depth=0)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise InvalidRequest(f"config.pbtxt: {text[at : at + 20]!r} is not valid")
        at = found.end()
        if found.lastgroup is not None:
            yield found[0]


class _Reader:
    """Reader of tokens, from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def message(self, closing: str | None, depth: int) -> Message:
        if depth > _DEEPEST:
            raise InvalidRequest("config.pbtxt is nested too deeply")
        fields: Message = {}
        while (token := self._next(closing)) != closing:
            if token in (",", ";"):
                continue
            values = fields.setdefault(str(token), [])
            if self._peek() == ":":
                self._next(":")
            values += self._value(depth)
        return fields

    def _value(self, depth: int) -> list[Any]:
        token = self._next("a value")
        if token == "{":
            return [self.message("}", depth + 1)]
        if token == "<":
            return [self.message(">", depth + 1)]
        if token != "[":
            return [_plain(str(token))]
        values: list[Any] = []
        while self._peek() != "]":
            if self._peek() == ",":
                self._next(",")
            else:
                values += self._value(depth + 1)
        self._next("]")
        return values

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, wanted: str | None) -> str | None:
        token = self._peek()
        if token is None and wanted is not None:
            raise InvalidRequest(f"config.pbtxt ends before {wanted}")
        self._at += 1
        return token


def _plain(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token[:1] in ("'", '"') else token
