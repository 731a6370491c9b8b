"""Tests of latency by batch size and by length."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.latency import (
    BatchLatency,
    LatencyModel,
    LengthLatency,
    LengthModel,
    fit_latency,
    interpolation_error,
    is_noisy,
)


def model(points: dict[int, float], max_batch: int) -> LatencyModel:
    return LatencyModel([BatchLatency(b, s, 2 * s) for b, s in points.items()], max_batch)


@pytest.mark.parametrize(
    ("points", "max_batch", "expected"),
    [
        ({1: 1.0, 4: 2.5, 8: 4.5}, 8, {1: 1.0, 2: 1.5, 4: 2.5, 6: 3.5, 8: 4.5}),
        ({1: 1.0, 4: 2.5, 8: 4.5}, 16, {10: 5.5}),
        ({2: 1.0}, 4, {4: 2.0}),
        ({1: 1.0, 8: 4.5}, 8, {17: 2 * 4.5 + 1.0}),
    ],
    ids=["interpolates", "extrapolates the last segment", "one point is proportional", "splits above the limit"],
)
def test_latency_model_predicts_batches(points: dict[int, float], max_batch: int, expected: dict[int, float]) -> None:
    latency = model(points, max_batch)
    assert {batch: latency.batch_s(batch) for batch in expected} == expected


def test_latency_model_of_uneven_inputs_uses_mean_and_p99() -> None:
    measured = [BatchLatency(1, 0.1, 5.0, mean_s=1.0), BatchLatency(4, 3.0, 9.0, mean_s=2.5)]
    latency = LatencyModel(measured, 4)
    assert [latency.batch_s(b) for b in (1, 2, 4, 5)] == [1.0, 1.5, 2.5, 3.5]
    assert [latency.promised_s(b) for b in (1, 4, 5)] == [5.0, 9.0, 14.0]
    assert (latency.is_even, model({1: 1.0}, 1).is_even) == (False, True)


def test_batch_latency_omits_absent_mean_in_json() -> None:
    written = msgspec.json.encode(BatchLatency(1, 0.5, 0.75))
    assert written == b'{"batch":1,"p50_s":0.5,"p99_s":0.75}'
    assert msgspec.json.decode(written, type=BatchLatency) == BatchLatency(1, 0.5, 0.75)


@given(st.dictionaries(st.integers(1, 32), st.tuples(*[st.floats(1e-6, 10)] * 3), min_size=1, max_size=5))
def test_latency_model_promise_is_at_least_prediction(points: dict[int, tuple[float, float, float]]) -> None:
    latency = LatencyModel([BatchLatency(b, p50, p99, mean_s=mean) for b, (p50, p99, mean) in points.items()], 32)
    assert all(latency.promised_s(b) >= latency.batch_s(b) * (1 - 1e-9) >= 0 for b in range(1, 70))


@pytest.mark.parametrize(
    ("points", "noise", "noisy"),
    [
        ({1: 1.0, 2: 1.1, 4: 1.5}, 0.03, False),
        ({1: 1.0, 2: 0.9, 4: 1.5}, 0.03, False),
        ({1: 1.0, 2: 9.0, 4: 90.0}, 0.03, False),
        ({1: 9.0, 2: 1.1, 4: 1.5}, 0.03, True),
        ({1: 1.0, 2: 1.1, 4: 1.5}, 0.2, True),
    ],
)
def test_is_noisy_detects_falling_or_noisy_latencies(points: dict[int, float], noise: float, noisy: bool) -> None:
    assert is_noisy([BatchLatency(b, s, s, noise=noise) for b, s in points.items()]) is noisy


LATENCY = LatencyModel([BatchLatency(b, s, s) for b, s in ((1, 0.004), (4, 0.010), (16, 0.034))], 16)
MEASURED = (
    LengthLatency(16, 0.004),
    LengthLatency(32, 0.006),
    LengthLatency(64, 0.010, typical=True),
    LengthLatency(128, 0.030),
)


@pytest.mark.parametrize(
    ("length", "four_s"), [(16, 0.004), (32, 0.006), (48, 0.008), (64, 0.010), (128, 0.030), (192, 0.050)]
)
def test_length_model_is_exact_and_interpolates(length: int, four_s: float) -> None:
    assert LATENCY.batch_s(4) + 4 * LengthModel(MEASURED, LATENCY).extra_s(length) == pytest.approx(four_s)


def test_length_model_excludes_fixed_cost_of_batch() -> None:
    """Figures of a two-layer MiniLM: about 2.4 ms per batch and 5 ms per input of 48 values; 12 values took 4.2 ms."""
    latency = LatencyModel([BatchLatency(b, s, s) for b, s in ((1, 0.0075), (4, 0.0226), (16, 0.0874))], 16)
    lengths = LengthModel([LengthLatency(12, 0.0078), LengthLatency(48, 0.0226, typical=True)], latency)
    assert latency.batch_s(1) + lengths.extra_s(12) == pytest.approx(0.0038, abs=1e-4)


def test_length_model_is_at_least_proportional() -> None:
    """Short inputs take almost no time in batches of 4, and the model is more efficient in batches of 16."""
    latency = LatencyModel([BatchLatency(b, s, s) for b, s in ((1, 0.004), (4, 0.010), (16, 0.016))], 16)
    lengths = LengthModel([LengthLatency(16, 0.001), LengthLatency(64, 0.010, typical=True)], latency)
    assert latency.batch_s(16) + 16 * lengths.extra_s(16) == pytest.approx(0.016 / 4)


def test_length_model_applies_correction_and_bounds_extrapolation() -> None:
    corrected = LatencyModel([BatchLatency(4, 0.010, 0.010)], 16, correction=2.0)
    assert LengthModel(MEASURED, corrected).extra_s(128) == pytest.approx(2 * 0.020 / 4)
    assert LATENCY.batch_s(1) + LengthModel(MEASURED, LATENCY).extra_s(10**9) == pytest.approx(16 * 0.004)
    for too_few in ((), MEASURED[:2], MEASURED[2:3]):
        assert LengthModel(too_few, LATENCY).extra_s(1000) == 0.0


@given(
    st.dictionaries(st.integers(1, 512), st.floats(1e-6, 1.0), min_size=2, max_size=6),
    st.integers(1, 2000),
    st.integers(1, 16),
)
def test_length_model_is_monotonic_and_positive(points: dict[int, float], length: int, batch: int) -> None:
    measured = [LengthLatency(at, seconds, typical=at == min(points)) for at, seconds in points.items()]
    model = LengthModel(measured, LATENCY)
    assert model.extra_s(length) <= model.extra_s(length + 1) + 1e-12
    assert LATENCY.batch_s(batch) + batch * model.extra_s(length) > 0


def test_interpolation_error_detects_curves() -> None:
    assert interpolation_error([(1, 2.0), (2, 3.0), (4, 5.0)]) == pytest.approx(0)
    assert interpolation_error([(1, 1.0), (2, 4.0), (4, 16.0)]) == pytest.approx(0.5)
    assert interpolation_error([(1, 1.0), (2, 4.0)]) == 0


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(2, 64))
def test_fit_latency_recovers_line(intercept: float, slope: float, maximum: int) -> None:
    line = fit_latency([BatchLatency(b, intercept + slope * b, 1.0) for b in (1, 2, 4, maximum + 4)])
    assert line.intercept_s == pytest.approx(intercept, rel=1e-4, abs=1e-7)
    assert line.slope_s == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert line.error < 1e-4


def test_fit_latency_error_is_relative() -> None:
    assert fit_latency([BatchLatency(b, s, s) for b, s in ((1, 1.0), (2, 1.0), (4, 4.0))]).error > 0.1
    assert fit_latency([BatchLatency(4, 8.0, 8.0)]).slope_s == 2.0
