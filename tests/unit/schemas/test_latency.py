import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.latency import BatchLatency, LatencyModel, is_noisy


def model(points: dict[int, float], max_batch: int) -> LatencyModel:
    return LatencyModel([BatchLatency(b, s, 2 * s) for b, s in points.items()], max_batch)


def test_latency_model_is_exact_and_interpolates() -> None:
    latency = model({1: 1.0, 4: 2.5, 8: 4.5}, 8)
    assert [latency.batch_s(b) for b in (1, 2, 4, 6, 8)] == [1.0, 1.5, 2.5, 3.5, 4.5]


def test_latency_model_extrapolates_last_segment() -> None:
    assert model({1: 1.0, 4: 2.5, 8: 4.5}, 16).batch_s(10) == 5.5


def test_latency_model_of_one_point_is_proportional() -> None:
    assert model({2: 1.0}, 4).batch_s(4) == 2.0


def test_latency_model_splits_batch_above_limit() -> None:
    latency = model({1: 1.0, 8: 4.5}, 8)
    assert latency.batch_s(17) == 2 * 4.5 + 1.0


def test_latency_model_of_uneven_inputs_uses_mean_and_p99() -> None:
    measured = [BatchLatency(1, 0.1, 5.0, mean_s=1.0), BatchLatency(4, 3.0, 9.0, mean_s=2.5)]
    latency = LatencyModel(measured, 4)
    assert [latency.batch_s(b) for b in (1, 2, 4, 5)] == [1.0, 1.5, 2.5, 3.5]
    assert [latency.promised_s(b) for b in (1, 4, 5)] == [5.0, 9.0, 14.0]
    assert not latency.is_even
    assert model({1: 1.0}, 1).is_even


def test_batch_latency_omits_absent_mean_in_json() -> None:
    written = msgspec.json.encode(BatchLatency(1, 0.5, 0.75))
    assert written == b'{"batch":1,"p50_s":0.5,"p99_s":0.75}'
    assert msgspec.json.decode(written, type=BatchLatency) == BatchLatency(1, 0.5, 0.75)


@given(st.dictionaries(st.integers(1, 32), st.tuples(*[st.floats(1e-6, 10)] * 3), min_size=1, max_size=5))
def test_latency_model_promise_is_at_least_prediction(points: dict[int, tuple[float, float, float]]) -> None:
    latency = LatencyModel([BatchLatency(b, p50, p99, mean_s=mean) for b, (p50, p99, mean) in points.items()], 32)
    assert all(latency.promised_s(b) >= latency.batch_s(b) * (1 - 1e-9) for b in range(1, 70))


def test_latency_model_requires_a_point() -> None:
    with pytest.raises(ValueError, match="at least one"):
        model({}, 8)


@given(
    st.dictionaries(st.integers(1, 64), st.floats(1e-6, 10, allow_nan=False), min_size=1, max_size=6),
    st.integers(1, 128),
    st.integers(1, 1000),
)
def test_latency_model_is_never_negative(points: dict[int, float], max_batch: int, batch: int) -> None:
    assert model(points, max_batch).batch_s(batch) >= 0


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
