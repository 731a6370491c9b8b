"""Header of a GGUF file: metadata of the model, and the number formats of its tensors. It needs no package.

The file begins with its magic, its version, and the numbers of tensors and of metadata, all little-endian. Long lists,
such as the vocabulary, are skipped.
"""

import struct
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from schemas.errors import InvalidRequest, OperatorError

MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MOST_TEXT: Final = 16 << 20
"""Bytes of the longest text: chat templates are some kilobytes."""
_MOST_ENTRIES: Final = 1 << 24
_MOST_DIMENSIONS: Final = 8
_STRING: Final = 8
_ARRAY: Final = 9
_NUMBERS: Final[dict[int, str]] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_FORMATS: Final = {
    0: "fp32", 1: "fp16", 2: "q4-0", 3: "q4-1", 7: "q8-0", 8: "q5-0", 9: "q5-1", 10: "q2-k", 11: "q3-k-s",
    12: "q3-k-m", 13: "q3-k-l", 14: "q4-k-s", 15: "q4-k-m", 16: "q5-k-s", 17: "q5-k-m", 18: "q6-k", 19: "iq2-xxs",
    20: "iq2-xs", 21: "q2-k-s", 22: "iq3-xs", 23: "iq3-xxs", 24: "iq1-s", 25: "iq4-nl", 26: "iq3-s", 27: "iq3-m",
    28: "iq2-s", 29: "iq2-m", 30: "iq4-xs", 31: "iq1-m", 32: "bf16", 36: "tq1-0", 37: "tq2-0", 38: "mxfp4",
}  # fmt: skip
"""Names of the values of `general.file_type`, in the form of words in names of variants."""
_OTHER: Final = "mixed"


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a model that its header states."""

    architecture: str
    precision: str
    """Number format of its weights, e.g. `q4-k-m`; `mixed`: unknown."""
    context_tokens: int
    """Tokens for which it was trained."""
    has_chat_template: bool
    tensor_types: dict[int, int]
    """Number of tensors by llama.cpp's number of their format."""


def read_gguf_header(file: Path) -> GgufHeader:
    """Return the header of a GGUF file; blocks.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is damaged, or no language model.
    """
    try:
        with file.open("rb") as content:
            return _header(_Reader(content))
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    except (_Damaged, struct.error, UnicodeError) as error:
        raise InvalidRequest(f"{file.name} is not a GGUF file, or damaged: {error}") from error


class _Damaged(Exception):
    pass


def _header(reader: "_Reader") -> GgufHeader:
    if reader.take(len(MAGIC)) != MAGIC or (version := reader.number("<I")) not in _VERSIONS:
        raise _Damaged("it has an unknown version")
    tensors, entries = reader.number("<Q"), reader.number("<Q")
    if max(tensors, entries) > _MOST_ENTRIES:
        raise _Damaged(f"version {version} with {tensors} tensors")
    values = dict(reader.entry() for _ in range(entries))
    types = Counter(reader.tensor_type() for _ in range(tensors))
    architecture = values.get("general.architecture")
    context = values.get(f"{architecture}.context_length")
    if not isinstance(architecture, str) or not isinstance(context, int) or not tensors:
        raise InvalidRequest("the GGUF file is no language model: it states no architecture and length of context")
    return GgufHeader(
        architecture=architecture,
        precision=_FORMATS.get(values.get("general.file_type", -1), _OTHER),
        context_tokens=context,
        has_chat_template=bool(values.get("tokenizer.chat_template")),
        tensor_types=dict(types),
    )


class _Reader:
    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def take(self, count: int) -> bytes:
        found = self._content.read(count)
        if len(found) < count:
            raise _Damaged("it ends early")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        length = self.number("<Q")
        if length > _MOST_TEXT:
            raise _Damaged(f"a text of {length} bytes")
        return self.take(length).decode()

    def entry(self) -> tuple[str, Any]:
        return self.text(), self._value(self.number("<I"))

    def tensor_type(self) -> int:
        self.text()
        dimensions = self.number("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise _Damaged(f"a tensor of {dimensions} dimensions")
        self.take(8 * dimensions)
        found = self.number("<I")
        self.take(8)  # offset of its data
        return found

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._skip_array(self.number("<I"), self.number("<Q"))
        if kind not in _NUMBERS:
            raise _Damaged(f"a value of unknown type {kind}")
        return self.number(_NUMBERS[kind])

    def _skip_array(self, kind: int, count: int) -> None:
        if count > _MOST_ENTRIES:
            raise _Damaged(f"a list of {count} values")
        if kind in _NUMBERS:
            self._content.seek(count * struct.calcsize(_NUMBERS[kind]), 1)
        elif kind == _STRING:
            for _ in range(count):
                self._content.seek(self.number("<Q"), 1)
        else:
            raise _Damaged(f"a list of values of type {kind}")
