"""Profiles: the line, the sizes, and a real measurement."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.pipeline.measurement import MeasureVariant, batch_sizes, fit_latency
from registry.samples import load_arrays, save_arrays, take_rows
from runtimes.protocol import LoadOptions
from schemas.latency import BatchLatency


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(2, 64))
def test_a_line_is_found_again(intercept: float, slope: float, maximum: int) -> None:
    points = [BatchLatency(b, intercept + slope * b, 1.0) for b in batch_sizes(maximum)]
    line = fit_latency(points)
    assert line.intercept_s == pytest.approx(intercept, rel=1e-4, abs=1e-7)
    assert line.slope_s == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert line.error < 1e-4


def test_the_error_is_relative() -> None:
    assert fit_latency([BatchLatency(b, s, s) for b, s in ((1, 1.0), (2, 1.0), (4, 4.0))]).error > 0.1
    assert fit_latency([BatchLatency(4, 8.0, 8.0)]).slope_s == 2.0


@pytest.mark.parametrize(("maximum", "sizes"), [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_sizes_double_up_to_the_largest(maximum: int, sizes: list[int]) -> None:
    assert batch_sizes(maximum) == sizes


@given(st.integers(1, 20), st.integers(0, 200), st.integers(1, 50))
def test_rows_begin_again_at_the_end(total: int, start: int, count: int) -> None:
    taken = take_rows({"x": np.arange(total)}, start, count)["x"]
    assert taken.tolist() == [(start + place) % total for place in range(count)]


def test_measures_a_real_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((50, 4), dtype=np.float32)
    samples, outputs, single = (tmp_path / name for name in ("samples", "outputs", "single"))
    save_arrays(samples, {"x": x})
    options = LoadOptions(precision="fp32", max_batch=4)
    measured = MeasureVariant(make_model(), "onnx", "cpu", options, samples, outputs, single).run()
    assert [point.batch for point in measured.latency] == [1, 2, 4]
    assert all(0 < point.p50_s <= point.p99_s < 1 for point in measured.latency)
    assert 0 < measured.load_s < 5
    assert measured.device
    scores = load_arrays(outputs)["scores"]
    assert scores.shape == (50, 3)
    assert np.allclose(load_arrays(single)["scores"], scores[:4])
