"""Tests of workloads: statistics of each process, mixes, descriptions, and reproduction from a seed."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import OperatorError
from simulator.trace import QueryKind, Trace
from simulator.workloads.description import parse_workload, read_workload
from simulator.workloads.gamma import gamma_times
from simulator.workloads.workload import generate

TEXTS = (
    "poisson:rate=200,seconds=100",
    "gamma:rate=200,seconds=100,cv=3",
    "gamma:rate=200,seconds=100,cv=0.2",
    "markov:rates=50/350,means=2/2,seconds=100",
    "markov:rates=0/200/1000,means=5/2/1,seconds=1000",
    "diurnal:rate=200,seconds=100,period=50,amplitude=1",
    "flash-crowd:rate=200,factor=5,at=30,rise=5,hold=10,fall=20,seconds=100",
    "steps:rates=100/300,lengths=25/25,seconds=100",
)


def drawn(text: str, seed: int = 1) -> Trace:
    return generate(parse_workload(text), seed)


def from_json(tmp_path: Path, *streams: object) -> Trace:
    path = tmp_path / "workload.json"
    path.write_text(json.dumps({"streams": streams}))
    return generate(read_workload(str(path)), 1)


def cv_of(trace: Trace) -> float:
    gaps = np.diff(trace.time_s)
    return float(gaps.std() / gaps.mean())


def correlation(series: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(series[:-lag], series[lag:])[0, 1])


def shares(trace: Trace, field: str) -> dict[object, float]:
    counts = Counter[object]()
    for kind, count in zip(trace.kinds, np.bincount(trace.kind).tolist(), strict=True):
        counts[getattr(kind, field)] += count
    return {value: count / len(trace) for value, count in counts.items()}


@pytest.mark.parametrize("text", TEXTS)
def test_generate_is_reproducible_and_differs_by_seed(text: str) -> None:
    first, again, other = drawn(text), drawn(text), drawn(text, seed=2)
    assert first.time_s.tobytes() == again.time_s.tobytes()
    assert len(first) != len(other) or first.time_s.tobytes() != other.time_s.tobytes()
    assert 0 <= first.time_s[0] <= first.time_s[-1] < parse_workload(text).streams[0].seconds


def test_generate_gives_same_queries_in_other_processes() -> None:
    trace = drawn("gamma:rate=50,seconds=20,cv=2,tasks=a/b/c,zipf=1.2")
    rows = [f"{time:.6f} {trace.kinds[kind].task}" for time, kind in zip(trace.time_s, trace.kind, strict=True)]
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == "d45adaa2d5f17d7b"


@pytest.mark.parametrize(
    ("text", "rate", "cv"),
    [
        ("poisson:rate=500,seconds=1000", 500, 1.0),
        ("gamma:rate=500,seconds=1000,cv=0.3", 500, 0.3),
        ("gamma:rate=500,seconds=1000,cv=3", 500, 3.0),
        ("gamma:rate=500,seconds=4000,cv=8", 500, 8.0),
    ],
)
def test_renewal_process_has_rate_and_cv(text: str, rate: float, cv: float) -> None:
    trace = drawn(text)
    assert trace.rate_per_s == pytest.approx(rate, rel=0.03)
    assert cv_of(trace) == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize(("rate", "cv", "duration_s"), [(1, 5, 12), (5, 30, 600)])
def test_gamma_short_samples_have_mean_rate(rate: float, cv: float, duration_s: float) -> None:
    """An ordinary renewal process, which begins just after an arrival, would have (cv ** 2 - 1) / 2 more arrivals."""
    random = np.random.default_rng(1)
    counts = [len(gamma_times(rate, cv, duration_s, random)) for _ in range(2000)]
    assert np.mean(counts) == pytest.approx(rate * duration_s, rel=0.1)


def test_markov_rate_and_autocorrelation() -> None:
    """Two states of 2 s each: the rate's autocorrelation at lag t is exp(-t), its variance 150 ** 2."""
    counts = drawn("markov:rates=50/350,means=2/2,seconds=20000").rates_per_s(0.1)
    assert counts.mean() == pytest.approx(200, rel=0.03)
    variance = 150**2
    share = variance / (variance + 200 / 0.1)
    for lag_s in (0.5, 1.0, 2.0):
        assert correlation(counts, round(lag_s * 10)) == pytest.approx(share * np.exp(-lag_s), abs=0.04)


def test_markov_three_states_have_time_weighted_rate() -> None:
    trace = drawn("markov:rates=0/200/1000,means=5/2/1,seconds=20000")
    assert trace.rate_per_s == pytest.approx((200 * 2 + 1000) / 8, rel=0.05)


def test_diurnal_phase_and_amplitude() -> None:
    time_s = drawn("diurnal:rate=500,seconds=2000,period=100,amplitude=0.6,phase=0.25").time_s
    wave = np.exp(2j * np.pi * time_s / 100).mean()
    assert len(time_s) == pytest.approx(500 * 2000, rel=0.01)
    assert 2 * abs(wave) == pytest.approx(0.6, abs=0.01)
    assert np.angle(wave) / (2 * np.pi) == pytest.approx(0.25, abs=0.005)


def test_flash_crowd_rate_in_each_phase() -> None:
    rates = drawn("flash-crowd:rate=1000,factor=5,at=20,rise=10,hold=20,fall=10,seconds=100").rates_per_s(10)
    assert rates == pytest.approx([1000, 1000, 3000, 5000, 5000, 3000, *[1000] * 4], rel=0.06)


def test_flash_crowd_without_rise_and_fall_is_a_spike() -> None:
    rates = drawn("flash-crowd:rate=1000,factor=10,at=20,hold=10,seconds=40").rates_per_s(10)
    assert rates == pytest.approx([1000, 1000, 10000, 1000], rel=0.06)


def test_steps_repeat_until_stream_ends() -> None:
    rates = drawn("steps:rates=1000/0/3000,lengths=10/10/10,seconds=50").rates_per_s(10)
    assert rates == pytest.approx([1000, 0, 3000, 1000, 0][: len(rates)], rel=0.06)
    assert drawn("steps:rates=100/300,lengths=10/10").duration_s == pytest.approx(20, abs=0.1)


def test_stream_speed_and_start() -> None:
    trace = drawn("steps:rates=100/300,lengths=100/100,speed=10,start=5")
    assert trace.rates_per_s(5) == pytest.approx([0, 1000, 1000, 3000, 3000], rel=0.06)


def test_zipf_popularity_of_tasks() -> None:
    found = shares(drawn("poisson:rate=1000,seconds=100,tasks=a/b/c/d,zipf=1.5,latency_ms=50"), "task")
    weights = {task: rank**-1.5 for rank, task in enumerate("abcd", start=1)}
    assert found == pytest.approx({task: weight / sum(weights.values()) for task, weight in weights.items()}, abs=0.01)


def test_mix_of_kinds_by_weight(tmp_path: Path) -> None:
    kinds = [{"task": "a", "latency_ms": 50, "weight": 3}, {"task": "b", "mode": "offline", "batch": 8}]
    trace = from_json(
        tmp_path, {"arrivals": {"process": "poisson", "rate": 1000}, "seconds": 100, "mix": {"kinds": kinds}}
    )
    assert {*trace.kinds} == {QueryKind(task="a", latency_ms=50), QueryKind(task="b", mode="offline", batch=8)}  # pyright: ignore[reportArgumentType]
    assert shares(trace, "task") == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.01)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ({"sizes": "geometric", "mean": 2, "most": 3}, {1: 0.5, 2: 0.25, 3: 0.25}),
        ({"sizes": "list", "of": [1, 8, 8, 64]}, {1: 0.25, 8: 0.5, 64: 0.25}),
    ],
)
def test_batch_sizes_distribution(tmp_path: Path, batches: object, expected: dict[int, float]) -> None:
    stream = {"arrivals": {"process": "poisson", "rate": 1000}, "seconds": 100, "mix": {"batches": batches}}
    assert shares(from_json(tmp_path, stream), "batch") == pytest.approx(expected, abs=0.01)


def test_streams_are_independent_and_overlaid(tmp_path: Path) -> None:
    one = {"arrivals": {"process": "poisson", "rate": 10}, "seconds": 10, "mix": {"kinds": [{"task": "a"}]}}
    two = {"arrivals": {"process": "poisson", "rate": 99}, "seconds": 10, "mix": {"kinds": [{"task": "b"}]}}
    alone, both = from_json(tmp_path, one), from_json(tmp_path, one, two)
    of_one = both.time_s[[both.kinds[kind].task == "a" for kind in both.kind]]
    assert of_one.tobytes() == alone.time_s.tobytes()
    assert len(both) > len(alone)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poissn:rate=1", "not a kind of arrivals; use poisson, gamma"),
        ("poisson:rate=-1,seconds=1", "`float` > 0.0 - at `arrivals.rate`"),
        ("poisson:rate=1,seconds=inf", "at `seconds`"),
        ("poisson:rate=1,secods=3", "poisson has no setting secods; use rate, seconds"),
        ("poisson:rate=1,rate=2", "each setting once"),
        ("poisson:rate", "name=value"),
        ("poisson:seconds=3", "missing required field `rate`"),
        ("poisson:rate=1", "stream 0 .* set `seconds`"),
        ("markov:rates=1/2,means=1/2/3,seconds=1", "2 rates, but 3 means"),
        ("steps:rates=1/2,lengths=1,seconds=1", "2 rates, but 1 lengths"),
        ("diurnal:rate=1,amplitude=2,seconds=1", "<= 1.0 - at `arrivals.amplitude`"),
        ("poisson:rate=1,seconds=1,task=A_b", "task must be a name"),
        ("poisson:rate=1,seconds=1,tasks=A_b/c", "'A_b' is not a name of a task"),
        ("poisson:rate=1,seconds=1,mode=fast", "Invalid enum value 'fast'"),
    ],
)
def test_text_with_mistake_is_refused(text: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        drawn(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "workload.json: .*truncated"),
        ('{"streams": []}', "length >= 1 - at `[$].streams`"),
        ('{"streams": [{"arrivals": {"process": "poisson", "rat": 1}}]}', "unknown field `rat`"),
        ('{"streams": [{"arrivals": {"process": "weibull"}}]}', "Invalid value 'weibull' - at `[$].streams"),
        (
            '{"streams": [{"arrivals": {"process": "poisson", "rate": 1}, "seconds": 9,'
            ' "mix": {"batches": {"sizes": "units", "scale": 1}}}]}',
            "stream 0 of the workload: batch sizes by units need",
        ),
    ],
)
def test_json_with_mistake_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "workload.json"
    path.write_text(content)
    with pytest.raises(OperatorError, match=message):
        generate(read_workload(str(path)), 0)


def test_generate_refuses_negative_seed() -> None:
    with pytest.raises(OperatorError, match="at least 0"):
        drawn(TEXTS[0], seed=-1)
