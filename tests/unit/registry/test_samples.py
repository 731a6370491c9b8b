"""Tests of reading, splitting and saving samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.samples import load_arrays, most_rows, read_labelled, read_samples, save_arrays, synthetic_inputs
from registry.signature import Signature
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec

SCORES = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))
MODEL = Signature(inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),), outputs=(SCORES,))


def test_read_samples_separates_calibration_and_measurement(make_samples: Callable[..., Path]) -> None:
    samples = read_samples(MODEL, make_samples(), None, SCORES, 1000)
    assert samples.calibration is not None
    measured = {row.tobytes() for row in samples.inputs["x"]}
    calibrated = {row.tobytes() for row in samples.calibration["x"]}
    assert (len(measured), len(calibrated)) == (180, 20)
    assert not measured & calibrated


def test_read_samples_split_is_deterministic_and_keeps_labels(make_samples: Callable[..., Path]) -> None:
    first, second = (read_samples(MODEL, make_samples(), None, SCORES, 50) for _ in range(2))
    assert first.count == 50
    assert np.array_equal(first.inputs["x"], second.inputs["x"])
    with np.load(make_samples()) as data:
        known = {row.tobytes(): label for row, label in zip(data["x"], data["label"], strict=True)}
    assert first.labels is not None
    assert [known[row.tobytes()] for row in first.inputs["x"]] == first.labels.tolist()


def test_read_samples_measures_all_rows_with_calibration_file(make_samples: Callable[..., Path]) -> None:
    apart = make_samples("apart.npz", 30, label=None)
    assert read_samples(MODEL, make_samples(), apart, SCORES, 1000).count == 200


def test_read_labelled_measures_all_rows(make_samples: Callable[..., Path]) -> None:
    samples = read_labelled(MODEL, make_samples(), SCORES, 1000, ())
    assert (samples.count, samples.calibration) == (200, None)
    assert read_labelled(MODEL, make_samples(), SCORES, 50, ()).count == 50


def test_read_samples_splits_unlabelled_inputs(make_samples: Callable[..., Path]) -> None:
    samples = read_samples(MODEL, None, make_samples("apart.npz", 30), SCORES, 1000)
    assert samples.labels is None
    assert samples.calibration is not None
    assert (samples.count, len(samples.calibration["x"])) == (15, 15)


def test_read_samples_generates_inputs_without_files() -> None:
    samples = read_samples(MODEL, None, None, SCORES, 1000)
    assert not samples.real
    assert samples.inputs["x"].shape == (64, 4)


@pytest.mark.parametrize(("datatype", "shape"), [("FP32", (-1, -1)), ("BYTES", (-1, 1))])
def test_read_samples_requires_examples_for_texts_and_free_sizes(datatype: str, shape: tuple[int, ...]) -> None:
    model = Signature(inputs=(TensorSpec(name="x", datatype=datatype, shape=shape),), outputs=(SCORES,))
    with pytest.raises(InvalidRequest, match="give example inputs"):
        read_samples(model, None, None, SCORES, 1000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": None}, "has no array 'x'; it has label"),
        ({"x": np.zeros((200, 5), np.float32)}, r"has the shape \[200, 5\], the model takes \[-1, 4\]"),
        ({"x": np.zeros((200, 4), complex)}, "is complex128, the model takes FP32"),
        ({"x": np.zeros((200, 4), "U3")}, "the model takes FP32"),
        ({"x": np.array([[object()] * 4] * 200)}, r"not an \.npz file of plain arrays"),
        ({"label": None}, "no 'label'"),
        ({"label": np.zeros(199, np.int64)}, "must have 200 rows"),
        ({"label": np.array(["cat", "dog"] * 100)}, r"are 2 names .* has 3 columns: give a file"),
        ({"label": np.full(200, 3)}, r"labels are 3\.\.3, but the model knows the classes 0\.\.2"),
        ({"label": np.full(200, -1)}, r"labels are -1"),
        ({"x": np.zeros((5, 4), np.float32), "label": np.zeros(5, np.int64)}, "at least 10"),
    ],
)
def test_read_samples_names_mismatches(make_samples: Callable[..., Path], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_samples(MODEL, make_samples(**changes), None, SCORES, 1000)


def test_read_samples_converts_integers_to_input_datatype(make_samples: Callable[..., Path]) -> None:
    samples = read_samples(MODEL, make_samples(x=np.ones((200, 4), np.uint8)), None, SCORES, 1000)
    assert samples.inputs["x"].dtype == np.float32


def test_save_arrays_keeps_trailing_zero_bytes(tmp_path: Path) -> None:
    """Encoded images may end in zero bytes, which numpy's byte strings would drop."""
    values = np.array([[b"a\0\0"], [b""], ["\u00e9".encode()]], object)
    save_arrays(tmp_path / "rows", {"text": values, "x": np.ones(3)})
    read = load_arrays(tmp_path / "rows")
    assert read["text"].tolist() == values.tolist()
    assert read["x"].tolist() == [1, 1, 1]


def test_read_samples_refuses_invalid_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InvalidRequest, match=r"not an \.npz file of plain arrays"):
        read_samples(MODEL, path, None, SCORES, 1000)
    with pytest.raises(OperatorError, match="cannot read"):
        read_samples(MODEL, tmp_path / "none.npz", None, SCORES, 1000)


def test_save_arrays_reports_write_failure(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot write"):
        save_arrays(tmp_path / "nowhere" / "x.npz", {"x": np.zeros(1)})


RATE = TensorSpec(name="rate", datatype="INT64", shape=(-1,), parameter=True)
WITH_RATE = Signature(inputs=(*MODEL.inputs, RATE), outputs=MODEL.outputs)


def test_read_samples_takes_parameters_default(make_samples: Callable[..., Path]) -> None:
    file = make_samples(rate=np.array(16000))
    samples = read_samples(WITH_RATE, file, None, SCORES, 1000)
    assert samples.inputs["rate"].tolist() == [16000] * samples.count
    assert [spec.default for spec in WITH_RATE.with_defaults(samples.inputs).inputs] == [None, 16000]


def test_read_samples_refuses_two_values_of_parameter(make_samples: Callable[..., Path]) -> None:
    with pytest.raises(InvalidRequest, match="'rate' must have one value"):
        read_samples(WITH_RATE, make_samples(rate=np.arange(200)), None, SCORES, 1000)
    with pytest.raises(InvalidRequest, match="'rate' is a scalar without a default value: give inputs"):
        synthetic_inputs(WITH_RATE.inputs)


def test_most_rows_bounds_outputs_of_sequences() -> None:
    logits = TensorSpec(name="logits", datatype="FP32", shape=(-1, -1, 50257))
    assert most_rows((logits,)) == 20
    assert most_rows((SCORES,)) > 1_000_000
