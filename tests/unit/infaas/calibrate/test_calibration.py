"""Tests of the comparison of runs, with simulations in place of a real system."""

from dataclasses import replace as changed

import numpy as np
import pytest
from msgspec.structs import replace

from infaas.calibrate.calibration import Calibration, RealRuns, compare_all
from infaas.calibrate.real_system import RealRun
from infaas.calibrate.trace_player import PlayedTrace
from infaas.cli.calibrate import calibration_table
from infaas.cli.output import out
from schemas.latency import BatchLatency
from simulator.calibration.comparison import ErrorVerdict
from simulator.calibration.measured_settings import MeasuredTimes
from simulator.calibration.scenarios import CalibrationScenario
from simulator.scenario import Machine, Scenario
from simulator.simulation import simulate
from tests.unit.simulator.scenarios import FIXED, SURE, a_catalogue, a_scenario, a_trace, a_variant

VARIANT = a_variant("cnn", noise=1.1)
TRACE = a_trace(20, 10)
REAL = a_scenario(TRACE, a_catalogue(VARIANT), scaling=FIXED, placed={VARIANT.name: 1}, machine=Machine(cpus=2))
PLAYED = CalibrationScenario(name="half", about="a test", trace=TRACE)


def real_run(seed: int, simulated_from: Scenario = REAL) -> RealRun:
    """Return a run of `REAL` as if it were real, with the scenario from which it is simulated."""
    result = simulate(replace(REAL, seed=seed))
    hop_s, nothing = np.full(len(TRACE), SURE.result.p50_s), np.zeros(len(TRACE))
    times = MeasuredTimes(
        send_delay_s=nothing, to_selector_s=hop_s, to_worker_s=hop_s, compute_s=nothing, total_s=3 * hop_s
    )
    return RealRun(changed(result, scenario=simulated_from), PlayedTrace(result.queries, times, nothing), None)


def compared(simulated_from: Scenario) -> Calibration:
    runs = [real_run(seed, simulated_from) for seed in (5, 6)]
    return compare_all(RealRuns(probe=real_run(7, simulated_from), scenarios=[PLAYED], runs={"half": runs}, skipped={}))


def test_calibration_of_the_same_system_is_within_goals() -> None:
    found = compared(REAL)
    [scenario] = found.scenarios
    assert not scenario.is_off
    assert scenario.variants == {VARIANT.name: (1.0, 1.0)}
    assert found.measured.delays.result.p50_s == pytest.approx(0.001)


def test_calibration_reports_wrong_profile_as_off() -> None:
    doubled = [BatchLatency(p.batch, 2 * p.p50_s, 2 * p.p99_s) for p in VARIANT.latency]
    wrong = a_catalogue(replace(VARIANT, latency=tuple(doubled)))
    found = compared(replace(REAL, catalogue=wrong))
    [scenario] = found.scenarios
    assert scenario.is_off
    verdicts = {figure.name: figure.verdict for figure in scenario.figures}
    assert verdicts["p50_ms"] is verdicts["p99_ms"] is ErrorVerdict.OFF
    with out.capture() as shown:
        out.print(calibration_table(found))
    assert "OFF" in shown.get()
