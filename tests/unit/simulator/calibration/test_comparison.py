"""Tests of the comparison of real and simulated runs."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.latency import BatchLatency
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict, compare_summaries
from simulator.simulation import simulate
from simulator.summary import Summary, summarize
from tests.unit.simulator.scenarios import FIXED, a_catalogue, a_scenario, a_trace, a_variant

SCENARIO = a_scenario(
    a_trace(30, 10), a_catalogue(a_variant("cnn", noise=1.2), slots=1), scaling=FIXED, placed={"cnn.onnx-fp32.cpu": 1}
)
REAL = summarize(simulate(SCENARIO))


def compared(real: list[Summary], simulated: list[Summary]) -> dict[str, CalibratedFigure]:
    return {figure.name: figure for figure in compare_summaries(real, simulated)}


def changed(**fields: Any) -> Summary:
    return replace(REAL, **fields)


def test_simulation_of_the_same_system_is_within_goals() -> None:
    other = summarize(simulate(replace(SCENARIO, seed=1)))
    verdicts = {name: figure.verdict for name, figure in compared([REAL], [other]).items()}
    assert set(verdicts.values()) == {ErrorVerdict.WITHIN}, verdicts


def test_doubled_times_of_a_profile_are_off() -> None:
    [variant] = SCENARIO.catalogue.variants
    slow = replace(variant, latency=tuple(BatchLatency(p.batch, 2 * p.p50_s, 2 * p.p99_s) for p in variant.latency))
    wrong = replace(SCENARIO, catalogue=replace(SCENARIO.catalogue, variants=(slow,)))
    found = compared([REAL], [summarize(simulate(wrong))])
    assert {found[name].verdict for name in ("p50_ms", "p99_ms")} == {ErrorVerdict.OFF}


@pytest.mark.parametrize(("real", "simulated", "error", "verdict"), [
    ([20.0], [21.0], 0.05, ErrorVerdict.WITHIN),
    ([20.0], [17.0], 0.15, ErrorVerdict.OFF),
    ([18.0, 22.0], [23.0], 0.15, ErrorVerdict.NOISE),
    ([20.0, 20.0], [26.0, 20.0], 0.15, ErrorVerdict.OFF),
    ([float("nan")], [20.0], None, ErrorVerdict.UNKNOWN),
])  # fmt: skip
def test_comparison_judges_error_by_goal_and_noise(
    real: list[float], simulated: list[float], error: float | None, verdict: ErrorVerdict
) -> None:
    figure = compared([changed(p50_ms=one) for one in real], [changed(p50_ms=one) for one in simulated])["p50_ms"]
    assert figure.error == (None if error is None else pytest.approx(error))
    assert figure.verdict is verdict


def test_comparison_with_nothing_has_no_error_but_a_verdict() -> None:
    figure = compared([changed(changes={})], [changed(changes={"place": 2})])["changes"]
    assert (figure.real, figure.error, figure.verdict) == (0.0, None, ErrorVerdict.OFF)


@pytest.mark.parametrize(("real", "simulated", "verdict"), [
    ({}, {}, ErrorVerdict.WITHIN),
    ({}, {"place": 1}, ErrorVerdict.WITHIN),
    ({}, {"place": 1, "start": 1}, ErrorVerdict.OFF),
    ({"place": 2}, {"place": 1, "start": 1}, ErrorVerdict.WITHIN),
    ({}, {"limit": 4}, ErrorVerdict.WITHIN),
    ({"place": 10}, {"place": 14}, ErrorVerdict.OFF),
])  # fmt: skip
def test_comparison_forgives_one_change_of_scale(
    real: dict[str, int], simulated: dict[str, int], verdict: ErrorVerdict
) -> None:
    assert compared([changed(changes=real)], [changed(changes=simulated)])["changes"].verdict is verdict
