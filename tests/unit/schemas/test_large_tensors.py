"""Tests of large JSON tensors, which are read and written in chunks."""

import json

import numpy as np
import orjson
import pytest

from schemas.errors import InvalidRequest
from schemas.tensors import from_json, to_json

SHAPES = [(40_000,), (10_000, 4), (100, 3, 8, 16), (1, 40_000), (40_000, 1)]


def text_of(values: object) -> bytes:
    return json.dumps(values, indent=1).encode()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_from_json_reads_large_tensors(shape: tuple[int, ...], datatype: str) -> None:
    array = (1e4 * np.random.default_rng(1).normal(size=shape)).astype({"FP32": "f4", "INT64": "i8"}[datatype])
    for values in (array.tolist(), array.ravel().tolist()):
        np.testing.assert_array_equal(from_json(datatype, shape, text_of(values), "$.data"), array)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("x", r"Invalid enum value 'x' - at `\$.data\[30000\]`"),
        (1e60, "does not fit FP32"),
    ],
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


def test_from_json_reads_nan_among_many() -> None:
    found = from_json("FP32", (40_000,), text_of([0.5] * 39_999 + ["NaN"]), "$.data")
    assert np.isnan(found[-1])
    assert (found[:-1] == 0.5).all()


@pytest.mark.parametrize("size", [16_384, 16_385, 50_000])
def test_to_json_writes_large_tensors(size: int) -> None:
    array = np.random.default_rng(1).normal(size=size).astype("f4")
    written = orjson.dumps({"data": to_json(array, "$")}, option=orjson.OPT_SERIALIZE_NUMPY)
    np.testing.assert_array_equal(np.array(json.loads(written)["data"], "f4"), array)
