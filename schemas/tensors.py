"""Conversion of Open Inference Protocol tensors between numpy arrays and JSON or the binary extension.

Rules:
* A shape is used only after a comparison with the available data, so memory grows with the received bytes and never
  with the claimed shape.
* Fixed-size tensors in binary form become read-only views of the received bytes, without a copy. They are aligned only
  if the sender padded its JSON, as our encoders do. BYTES become object arrays of `bytes`.
* BF16 has no numpy type and no JSON form. It is represented by the structured type `BF16` with one `<u2` field. numpy
  does not confuse it with UINT16, and keeps it when it slices or concatenates arrays.
* JSON has no NaN and no infinities. As in the JSON form of protobuf they are the strings "NaN", "Infinity" and
  "-Infinity", which numpy, and therefore tritonclient, can also read.

msgspec reads the JSON: its typed decoder refuses a wrong element and names its path (`[1, true]` is not a list of
integers). orjson writes it, because it supports numpy. Do not decode to an untyped list and let numpy infer the type:
numpy would turn 1.9 into 1, null into NaN, and a list with one long string into an array of strings of that width.
"""

import math
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.errors import InvalidRequest

Array = NDArray[Any]

BF16: Final = np.dtype([("bf16", "<u2")])
BYTES: Final = np.dtype(object)

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": BF16,
    "BYTES": BYTES,
}
_DATATYPES: Final = {dtype: name for name, dtype in DTYPES.items()}

MAX_RANK: Final = 16
_ELEMENT: Final[dict[str, Any]] = {"b": bool, "i": int, "u": int, "f": float, "O": str}
_SPECIAL_FLOAT: Final = float | Literal["NaN", "Infinity", "-Infinity"]
_NESTED: Final = re.compile(rb"\s*\[\s*\[")
_LENGTH: Final = struct.Struct("<I")
_CHUNK_BYTES: Final = 64 * 1024
"""Bytes of JSON that are decoded in one step; decoding holds the interpreter lock for about a millisecond."""
_CHUNK_ITEMS: Final = 16 * 1024
"""Numbers that are encoded in one step."""
_EDGE: Final = 64
"""Number of bytes at either end in which the first and the last bracket are searched."""


def dtype_of(datatype: str, where: str) -> np.dtype[Any]:
    """Return the numpy type of an OIP datatype.

    Raises:
        InvalidRequest: the datatype is unknown.
    """
    try:
        return DTYPES[datatype]
    except KeyError:
        raise InvalidRequest(f"{where}: unknown datatype {datatype[:20]!r}; known are {', '.join(DTYPES)}") from None


def datatype_of(array: Array) -> str:
    """Return the OIP datatype of an array.

    Raises:
        TypeError: the array's type has none, e.g. complex numbers.
    """
    if array.dtype.kind in "US":
        return "BYTES"
    try:
        return _DATATYPES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"arrays of {array.dtype} have no datatype in the Open Inference Protocol") from None


def bytes_array(values: Sequence[bytes | str]) -> Array:
    """Return a vector of BYTES, with texts in UTF-8.

    numpy's own conversion would strip trailing NULs and make all elements as wide as the longest.
    """
    array = np.empty(len(values), BYTES)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def float32_of(array: Array) -> NDArray[np.float32]:
    """Convert a BF16 array to float32, exactly."""
    return (array["bf16"].astype(np.uint32) << 16).view(np.float32)


def bf16_of(array: NDArray[np.float32]) -> Array:
    """Round a float32 array to BF16, ties to even; a NaN stays a NaN."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    quiet = ((bits >> 16) | 0x40).astype("<u2")
    return np.where(np.isnan(array), quiet, rounded).view(BF16)


def fixed_size(datatype: str, shape: Sequence[int]) -> int | None:
    """Return the bytes of a tensor in binary form; None if they depend on its elements (BYTES)."""
    dtype = DTYPES[datatype]
    return None if dtype is BYTES else math.prod(shape) * dtype.itemsize


# -- binary ------------------------------------------------------------------------------------------------------------
def from_binary(datatype: str, shape: Sequence[int], data: memoryview, where: str) -> Array:
    """Read the tensor in `data`; the result is a view of it unless the datatype is BYTES.

    Raises:
        InvalidRequest: the data does not have this shape and type; the message begins with `where`.
    """
    dtype = dtype_of(datatype, where)
    if dtype is BYTES:
        return _split_bytes(shape, data, where)
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InvalidRequest(
            f"{where}: {datatype} of shape {list(shape)} takes {wanted} bytes as binary data, not {len(data)}"
        )
    if dtype.kind == "b" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidRequest(f"{where}: a BOOL in binary form must be the byte 0 or 1")
    return _shaped(np.frombuffer(data, dtype), shape, where)


def to_binary(array: Array) -> bytes:
    """Write a tensor in binary form: row-major, little-endian; each BYTES element follows its length."""
    datatype = datatype_of(array)
    if datatype == "BYTES":
        return b"".join(part for item in _elements(array) for part in (_LENGTH.pack(len(item)), item))
    return array.astype(DTYPES[datatype], copy=False).tobytes()


def _split_bytes(shape: Sequence[int], data: memoryview, where: str) -> Array:
    wanted, size, offset = math.prod(shape), len(data), 0
    if wanted * _LENGTH.size > size:
        raise InvalidRequest(f"{where}: {size} bytes are too few for {wanted} BYTES elements")
    elements = np.empty(wanted, BYTES)
    for index in range(wanted):
        end = start = offset + _LENGTH.size
        if start <= size:
            end = start + _LENGTH.unpack_from(data, offset)[0]
        if end > size or start > size:
            raise InvalidRequest(f"{where}: the binary data ends within BYTES element {index}")
        elements[index] = bytes(data[start:end])
        offset = end
    if offset != size:
        raise InvalidRequest(f"{where}: {size - offset} bytes are left after {wanted} BYTES elements")
    return _shaped(elements, shape, where)


# -- JSON --------------------------------------------------------------------------------------------------------------
def from_json(datatype: str, shape: Sequence[int], data: msgspec.Raw | bytes, where: str) -> Array:
    """Read the tensor in the JSON text `data`, a flat or nested list in row-major order.

    Raises:
        InvalidRequest: the data does not have this shape and type; the message names the JSON path.
    """
    dtype = dtype_of(datatype, where)
    if dtype is BF16:
        raise InvalidRequest(f"{where}: BF16 has no JSON form; send it as binary data")
    depth = max(len(shape), 1) if _NESTED.match(data) else 1
    text = memoryview(data)
    if len(text) > 2 * _CHUNK_BYTES and dtype is not BYTES:
        large = _read_in_chunks(dtype, shape, depth, text)
        if large is not None:
            return large
    items = _decode_list(dtype.kind, depth, data, where)
    if dtype is BYTES:
        return _bytes_array(items, shape, depth, where)
    try:
        with np.errstate(over="raise"):
            array = np.array(items, dtype)
    except (OverflowError, FloatingPointError):
        raise InvalidRequest(f"{where}: a number does not fit {datatype}") from None
    except ValueError:
        raise InvalidRequest(f"{where}: the nested lists do not have the shape {list(shape)}") from None
    found, wanted = (array.shape, tuple(shape)) if depth > 1 else ((array.size,), (math.prod(shape),))
    if found != wanted and (array.size or math.prod(shape)):  # the shape of an empty nested list is ambiguous
        raise InvalidRequest(f"{where}: shape {list(shape)} needs {_counted(wanted)}, the data has {_counted(found)}")
    return _shaped(array, shape, where)


def _read_in_chunks(dtype: np.dtype[Any], shape: Sequence[int], depth: int, text: memoryview) -> Array | None:
    """Read many numbers in chunks, so that other threads can run in between; return None if the data is invalid.

    The caller then reads the data as a whole, which gives the error with its JSON path.
    """
    end_of_row = re.compile(rb"\]\s*" * (depth - 1) + b",")
    decoder, row = _list_decoder(dtype.kind, depth), tuple(shape[1:]) if depth > 1 else ()
    start, last = bytes(text[:_EDGE]).find(b"[") + 1, len(text) - _EDGE + bytes(text[-_EDGE:]).rfind(b"]")
    chunks: list[Array] = []
    try:
        while start < last:
            found = end_of_row.search(text, min(start + _CHUNK_BYTES, last), last)
            end = found.end() - 1 if found else last
            with np.errstate(over="raise"):
                chunks.append(np.array(decoder.decode(b"[%b]" % text[start:end]), dtype))
            if chunks[-1].shape[1:] != row:
                return None
            start = end + 1
    except (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError, FloatingPointError, ValueError):
        return None
    array = np.concatenate(chunks)
    return array.reshape(shape) if array.size == math.prod(shape) else None


def to_json(array: Array, where: str) -> object:
    """Return an object that orjson writes as the flat list of the tensor's elements.

    Raises:
        InvalidRequest: the tensor has no JSON form: it is BF16, or holds bytes that are not UTF-8.
    """
    datatype = datatype_of(array)
    if datatype == "BF16":
        raise InvalidRequest(f"{where}: BF16 has no JSON form; ask for it as binary data")
    if datatype == "BYTES":
        try:
            return [item.decode() for item in _elements(array)]
        except UnicodeDecodeError:
            raise InvalidRequest(f"{where}: holds bytes that are not UTF-8; ask for it as binary data") from None
    flat = np.ascontiguousarray(array.astype(DTYPES[datatype], copy=False)).reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return [item if math.isfinite(item) else _special_name(item) for item in flat.tolist()]
    return flat if len(flat) <= _CHUNK_ITEMS else _in_chunks(flat)


def _in_chunks(flat: Array) -> orjson.Fragment:
    """Write many numbers in chunks, so that other threads can run in between."""
    starts = range(0, len(flat), _CHUNK_ITEMS)
    texts = (orjson.dumps(flat[s : s + _CHUNK_ITEMS], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for s in starts)
    return orjson.Fragment(b"[%b]" % b",".join(texts))


def _special_name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decode_list(kind: str, depth: int, data: msgspec.Raw | bytes, where: str) -> list[Any]:
    try:
        return _list_decoder(kind, depth).decode(data)
    except msgspec.ValidationError as error:
        if kind == "f" and "got `str`" in str(error):
            return _decode_special(depth, data, where)
        raise _invalid(error, where) from None
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _invalid(error, where) from None


def _decode_special(depth: int, data: msgspec.Raw | bytes, where: str) -> list[Any]:
    """Decode a list of floats and strings; numpy converts the three allowed strings to numbers."""
    try:
        return _list_decoder("special", depth).decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _invalid(error, where) from None


def _invalid(error: Exception, where: str) -> InvalidRequest:
    text = str(error)
    return InvalidRequest(text.replace("at `$", f"at `{where}") if "at `$" in text else f"{where}: {text}")


@lru_cache(maxsize=128)
def _list_decoder(kind: str, depth: int) -> msgspec.json.Decoder[list[Any]]:
    items: Any = _SPECIAL_FLOAT if kind == "special" else _ELEMENT[kind]
    for _ in range(depth):
        items = list[items]
    return msgspec.json.Decoder(items)


def _bytes_array(items: list[Any], shape: Sequence[int], depth: int, where: str) -> Array:
    rows: list[Any] = [items]
    for size in shape if depth > 1 else (math.prod(shape),):
        if any(len(row) != size for row in rows):
            raise InvalidRequest(f"{where}: the data does not have the shape {list(shape)}")
        rows = list(chain.from_iterable(rows))
    return _shaped(bytes_array(rows), shape, where)


def _elements(array: Array) -> list[bytes]:
    items: list[Any] = array.reshape(-1).tolist()
    return [item if isinstance(item, bytes) else str(item).encode() for item in items]


def _counted(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} elements" if len(shape) == 1 else f"lists of {' x '.join(map(str, shape))}"


def _shaped(array: Array, shape: Sequence[int], where: str) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as error:  # the dimensions' product is 0, but the strides overflow
        raise InvalidRequest(f"{where}: shape {list(shape)} is not possible: {error}") from None
