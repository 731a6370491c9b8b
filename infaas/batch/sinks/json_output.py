"""JSON Lines output: one line per row, `{"row": 0, "id": ..., "outputs": {"label": "seven", "scores": [...]}}`."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from infaas.batch.rows import ChunkResult, FailedRow, OutputRows
from infaas.batch.sinks.output_format import OutputFormat, as_texts
from schemas.tensors import BF16, Array, float32_of

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_SPECIAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class JsonOutput(OutputFormat):
    """Writer of JSON Lines."""

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`."""
        if len(result.answered) == 1:
            return b"".join(line for _, line in _lines(result.answered[0]))
        return b"".join(line for _, line in sorted(line for part in result.answered for line in _lines(part)))


def failed_line(row: FailedRow) -> bytes:
    """Return the JSON line of a failed row."""
    head: dict[str, object] = {"row": row.number} | ({} if row.id is None else {"id": row.id})
    return orjson.dumps(head | {"code": row.code, "reason": row.reason}, str, _OPTIONS)


def _lines(rows: OutputRows) -> Iterator[tuple[int, bytes]]:
    outputs = {name: encodable(array) for name, array in rows.outputs.items()}
    for index, number in enumerate(rows.numbers.tolist()):
        line: dict[str, object] = {"row": number}
        if rows.ids and rows.ids[index] is not None:
            line["id"] = rows.ids[index]
        line["outputs"] = {name: values[index] for name, values in outputs.items()}
        yield number, orjson.dumps(line, str, _OPTIONS)


def encodable(array: Array) -> Any:
    """Return an array in a form that orjson can encode row by row.

    orjson encodes numpy arrays, but not arrays of text or float16, and it has no numbers for NaN and infinity.
    """
    if array.dtype == BF16:
        array = float32_of(array)
    array = as_texts(array)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _named(array.tolist())
    return array.tolist() if array.dtype == object else np.ascontiguousarray(array)


def _named(values: Any) -> Any:
    """Replace NaN and infinities in nested lists by their names, as in the protocol's JSON."""
    if isinstance(values, list):
        return [_named(value) for value in values]
    return _SPECIAL.get(str(values), values)
