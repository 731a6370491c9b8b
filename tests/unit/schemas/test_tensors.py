"""Tests of tensors in JSON and in binary form."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.errors import InvalidRequest
from schemas.tensors import (
    BF16,
    DTYPES,
    Array,
    bf16_of,
    datatype_of,
    float32_of,
    from_binary,
    from_json,
    to_binary,
    to_json,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, json: bool = False) -> Array:
    names = [name for name in DTYPES if not (json and name == "BF16")]
    dtype, shape = DTYPES[draw(st.sampled_from(names))], draw(SHAPES)
    if dtype == np.dtype(object):
        element = st.text(max_size=8).map(str.encode) if json else st.binary(max_size=8)
        array = np.empty(int(np.prod(shape)), object)
        array[:] = draw(st.lists(element, min_size=array.size, max_size=array.size))
        return array.reshape(shape)
    if dtype == BF16:
        return draw(hnp.arrays(np.dtype("<u2"), shape)).view(BF16)
    return draw(hnp.arrays(dtype, shape))


def same(left: Array, right: Array) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def dumped(array: Array) -> bytes:
    return orjson.dumps(to_json(array, "$"), option=orjson.OPT_SERIALIZE_NUMPY)


@given(arrays())
def test_binary_round_trip_is_exact_for_all_datatypes(array: Array) -> None:
    data = to_binary(array)
    back = from_binary(datatype_of(array), array.shape, memoryview(data), "$")
    assert to_binary(back) == data
    assert same(back, array)


@given(arrays(json=True))
def test_json_round_trip_is_exact_for_all_datatypes(array: Array) -> None:
    assert same(from_json(datatype_of(array), array.shape, dumped(array), "$"), array)


@given(arrays(json=True))
def test_from_json_reads_nested_lists(array: Array) -> None:
    text = array.astype(str) if array.dtype.kind == "O" and not array.size else array
    nested = np.vectorize(bytes.decode, otypes=[object])(text).tolist() if array.dtype.kind == "O" else array.tolist()
    if array.ndim == 0 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return
    assert same(from_json(datatype_of(array), array.shape, orjson.dumps(nested), "$"), array)


def test_from_binary_returns_view() -> None:
    data = np.arange(6, dtype=np.float32).tobytes()
    array = from_binary("FP32", [2, 3], memoryview(data), "$")
    assert np.shares_memory(array, np.frombuffer(data, np.float32))
    assert not array.flags.writeable


@given(arrays())
def test_from_binary_refuses_truncated_data(array: Array) -> None:
    data = to_binary(array)
    for cut in {cut for cut in (0, 1, len(data) // 2, len(data) - 1) if 0 <= cut < len(data)}:
        with pytest.raises(InvalidRequest):
            from_binary(datatype_of(array), array.shape, memoryview(data)[:cut], "$")
    with pytest.raises(InvalidRequest):
        from_binary(datatype_of(array), array.shape, memoryview(data + b"\0"), "$")


@pytest.mark.parametrize(
    ("datatype", "shape", "text", "message"),
    [
        ("INT64", [2], "[1, 2.5]", r"got `float` - at `\$\.x\[1\]`"),
        ("FP32", [2], '[1, "two"]', r"at `\$\.x\[1\]`"),
        ("FP32", [1], "[1e39]", "does not fit FP32"),
        ("FP16", [1], "[70000]", "does not fit FP16"),
        ("FP64", [1], "[1e400]", "out of range"),
        ("UINT8", [1], "[256]", "does not fit UINT8"),
        ("INT64", [1], "[9223372036854775808]", "does not fit INT64"),
        ("BOOL", [1], "[1]", "Expected `bool`"),
        ("BYTES", [1], "[1]", "Expected `str`"),
        ("BF16", [1], "[1]", "binary"),
        ("FP8", [1], "[1]", "unknown datatype"),
        ("INT8", [3], "[1, 2]", "3 elements"),
        ("INT8", [2, 2], "[[1, 2], [3]]", "shape"),
        ("INT8", [2], "[[1], [2]]", r"got `array` - at `\$\.x\[0\]`"),
        ("BYTES", [2, 2], '[["a"], ["b"]]', "shape"),
        ("INT8", [1], "[NaN]", "malformed"),
        ("INT8", [1], "[1", "truncated"),
        ("INT8", [1], "[" * 5000, "nested|Expected"),
        ("INT8", [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], "[]", "not possible"),
    ],
)
def test_from_json_refuses_wrong_data(datatype: str, shape: list[int], text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        from_json(datatype, shape, text.encode(), "$.x")


def test_to_json_writes_special_floats_as_strings() -> None:
    array = np.array([1.5, np.nan, np.inf, -np.inf], np.float32)
    assert dumped(array) == b'[1.5,"NaN","Infinity","-Infinity"]'


def test_from_json_reads_long_string_beside_short_ones() -> None:
    text = orjson.dumps(["x" * 1_000_000, *["y"] * 100_000])
    array = from_json("BYTES", [100_001], text, "$")
    assert array[-1] == b"y"
    with pytest.raises(InvalidRequest):
        from_json("FP32", [100_001], text, "$")


def test_bytes_that_no_value_has_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        to_json(np.array([b"\xff"], object), "$")
    with pytest.raises(InvalidRequest, match="0 or 1"):
        from_binary("BOOL", [2], memoryview(b"\x01\x02"), "$")


@given(hnp.arrays(np.float32, 5))
def test_bf16_of_rounds_to_nearest(array: Any) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        back = float32_of(bf16_of(array))
        finite = np.isfinite(array) & np.isfinite(back)
        assert (np.abs(back - array)[finite] <= np.abs(array)[finite] * 2**-8 + 1e-40).all()
    assert (np.isnan(back) == np.isnan(array)).all()
    assert same(bf16_of(back[~np.isnan(back)]), bf16_of(array[~np.isnan(array)]))


def test_datatype_of_refuses_unsupported_arrays() -> None:
    with pytest.raises(TypeError, match="complex128"):
        datatype_of(np.zeros(1, np.complex128))
    assert datatype_of(np.zeros(1, ">f4")) == "FP32"
    assert to_binary(np.ones(1, ">i2")) == b"\x01\x00"
    assert datatype_of(np.array(["text"])) == "BYTES"


def text_of(values: object) -> bytes:
    return json.dumps(values, indent=1).encode()


@pytest.mark.parametrize("shape", [(40_000,), (100, 3, 8, 16), (1, 40_000), (40_000, 1)])
@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_large_tensors_are_written_and_read_exactly(shape: tuple[int, ...], datatype: str) -> None:
    array = (1e4 * np.random.default_rng(1).normal(size=shape)).astype({"FP32": "f4", "INT64": "i8"}[datatype])
    for text in (text_of(array.tolist()), text_of(array.ravel().tolist()), dumped(array)):
        np.testing.assert_array_equal(from_json(datatype, shape, text, "$.data"), array)


@pytest.mark.parametrize(
    ("wrong", "says"), [("x", r"Invalid enum value 'x' - at `\$.data\[30000\]`"), (1e60, "does not fit FP32")]
)
def test_from_json_refuses_single_wrong_element(wrong: object, says: str) -> None:
    values: list[object] = [0.5] * 40_000
    values[30_000] = wrong
    with pytest.raises(InvalidRequest, match=says):
        from_json("FP32", (40_000,), text_of(values), "$.data")
    with pytest.raises(InvalidRequest, match="needs 40001"):
        from_json("FP32", (40_001,), text_of([0.5] * 40_000), "$.data")
    with pytest.raises(InvalidRequest, match="nested lists"):
        from_json("FP32", (20_000, 2), text_of([[0.5, 0.5]] * 19_999 + [[0.5]]), "$.data")


@pytest.mark.parametrize("size", [16_384, 16_385, 40_000])
def test_long_tensor_with_special_float_is_written_and_read_exactly(size: int) -> None:
    array = np.full(size, 0.5, np.float32)
    for last in (0.25, np.nan):
        array[-1] = last
        assert same(from_json("FP32", (size,), dumped(array), "$.data"), array)
        assert same(np.array(json.loads(dumped(array)), np.float32), array), "as tritonclient converts the list"
