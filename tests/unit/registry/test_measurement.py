"""Tests of measurement: sizes, lengths, fits and stored outputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from registry.pipeline.measurement import ComputeOutputs, MeasureVariant, at_length
from registry.pipeline.timing import batch_sizes
from registry.samples import load_arrays, save_arrays, take_rows
from runtimes.protocol import LoadOptions
from schemas.rows.catalog import Processing, Tokenise
from schemas.signature import TensorSpec
from tests.processing_files import text_model, write_tokenizer

TOKENS = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, -1)) for name in ("input_ids", "attention_mask"))


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten timing; `test_timing.py` tests its duration."""
    monkeypatch.setattr("registry.pipeline.timing._ROUND_S", 0.001)
    monkeypatch.setattr("registry.pipeline.timing._MOST_ROUNDS", 3)


@pytest.mark.parametrize(("maximum", "sizes"), [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_batch_sizes_double_up_to_maximum(maximum: int, sizes: list[int]) -> None:
    assert batch_sizes(maximum) == sizes


@given(st.integers(1, 20), st.integers(0, 200), st.integers(1, 50))
def test_take_rows_wraps_around(total: int, start: int, count: int) -> None:
    taken = take_rows({"x": np.arange(total)}, start, count)["x"]
    assert taken.tolist() == [(start + place) % total for place in range(count)]


@pytest.mark.usefixtures("short_rounds")
def test_measure_variant_profiles_real_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((50, 4), dtype=np.float32)
    samples, outputs, single = (tmp_path / name for name in ("samples", "outputs", "single"))
    save_arrays(samples, {"x": x})
    options = LoadOptions(precision="fp32", max_batch=4)
    measured = MeasureVariant(make_model(), "onnx", "cpu", options, samples, outputs, single_outputs=single).run()
    assert [point.batch for point in measured.latency] == [1, 2, 4]
    assert all(0 < point.p50_s <= point.p99_s < 1 for point in measured.latency)
    assert 0 < measured.load_s < 5
    assert measured.device
    scores = load_arrays(outputs)["scores"]
    assert scores.shape == (50, 3)
    assert np.allclose(load_arrays(single)["scores"], scores[:4])


@pytest.mark.usefixtures("short_rounds")
def test_measure_variant_profiles_lengths_of_dynamic_axis(make_model: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["scores"], axes=[1], keepdims=0),
    ]
    model, samples = make_model(nodes=nodes, x=["batch", "length", 4]), tmp_path / "samples"
    save_arrays(samples, {"x": np.random.default_rng(0).random((20, 8, 4), dtype=np.float32)})
    options = LoadOptions(precision="fp32", max_batch=2)
    tensors = (TensorSpec(name="x", datatype="FP32", shape=(-1, -1, 4)),)
    step = MeasureVariant(model, "onnx", "cpu", options, samples, tmp_path / "outputs", tensors=tensors)
    measured = step.run().lengths
    assert [(point.length, point.typical) for point in measured] == [
        (8, False), (16, False), (32, True), (64, False), (128, False),
    ]  # fmt: skip
    assert all(point.p50_s > 0 for point in measured)


def test_at_length_cuts_or_repeats_inputs() -> None:
    rows = {"x": np.arange(6).reshape(2, 3), "fixed": np.zeros((2, 5))}
    made = {factor: at_length(rows, factor, {"x": [1]}) for factor in (0.1, 0.5, 2.0)}
    assert made[0.1]["x"].tolist() == [[0], [3]]
    assert made[0.5]["x"].tolist() == [[0, 1], [3, 4]]
    assert made[2.0]["x"].tolist() == [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]
    assert all(arrays["fixed"].shape == (2, 5) for arrays in made.values())


@pytest.mark.parametrize("mixes", [True, False])
def test_compute_outputs_pads_texts_only_if_lengths_mix(tmp_path: Path, mixes: bool) -> None:
    """The model counts each padded position as a bad word."""
    step = ComputeOutputs(
        artifact=text_model(tmp_path / "text.onnx", masked=False),
        runtime="onnx",
        hardware="cpu",
        options=LoadOptions(precision="fp32", max_batch=2),
        samples=tmp_path / "rows",
        outputs=tmp_path / "outputs",
        processing=Processing(before=Tokenise(tokenizer=str(write_tokenizer(tmp_path / "t.json"))), tensors=TOKENS),
        mixes_lengths=mixes,
    )
    save_arrays(step.samples, {"text": np.array([b"good", b"good film"], object)})
    step.run()
    assert load_arrays(step.outputs)["scores"].tolist() == [[1.0 if mixes else 0.0, 1.0], [0.0, 1.0]]
