"""Tests of delays that are measured on a real system."""

from math import log, sqrt

import msgspec
import numpy as np
import pytest

from simulator.calibration.measured_settings import (
    CpuUse,
    MeasuredSettings,
    MeasuredStart,
    MeasuredTimes,
    fit_delays,
    fit_machine,
    fit_start,
    worker_start_s,
)
from simulator.scenario import Delays, Machine, Workers
from simulator.scenario_file import convert_scenario
from simulator.simulation import ScaleChange
from tests.unit.simulator.scenarios import a_catalogue, a_scenario, a_trace, a_variant

BASE = Delays(decision_s=0.123)
SCENARIO = a_scenario(a_trace(1.0, 1.0), a_catalogue(a_variant("small")))


def times(count: int) -> MeasuredTimes:
    """Return times whose queries found their worker idle, but for every tenth, which waited for 100 ms."""
    random = np.random.default_rng(0)
    to_worker_s = random.uniform(0.002, 0.004, count)
    to_worker_s[::10] += 0.1
    to_selector_s, compute_s = random.uniform(0.001, 0.003, count), np.full(count, 0.02)
    return MeasuredTimes(
        send_delay_s=np.full(count, 0.001),
        to_selector_s=to_selector_s,
        to_worker_s=to_worker_s,
        compute_s=compute_s,
        total_s=to_selector_s + to_worker_s + compute_s + 0.005,
    )


def test_measured_settings_have_quantiles_of_waits() -> None:
    delays = fit_delays(times(2000), BASE)
    drawn_s = delays.to_selector.draw(np.random.default_rng(1), 10_000)
    assert drawn_s.min() >= 0.002
    assert drawn_s.max() <= 0.004
    assert np.median(drawn_s) == pytest.approx(0.003, rel=0.05)
    assert delays.result.p50_s == pytest.approx(0.005)
    assert delays.decision_s == BASE.decision_s


def test_measured_delay_to_worker_leaves_out_waits_for_others() -> None:
    assert max(fit_delays(times(2000), BASE).to_worker.measured_s) <= 0.004


def test_few_queries_leave_delays_as_they_were() -> None:
    assert fit_delays(times(10), BASE) == BASE


@pytest.mark.parametrize(("used", "other"), [(0.75, 0.45), (0.1, 0.0)])
def test_measured_cpu_time_is_of_batches_services_and_others(used: float, other: float) -> None:
    machine = fit_machine(times(200), 200, 10.0, CpuUse(cpus=2, used=used, system_s=6.0))
    assert machine == Machine(cpus=2, query_cpu_s=0.01, other_cpu=other), "200 batches take 4 s, the services 2 s"


def test_start_of_worker_lasts_until_its_first_instance() -> None:
    changes = [
        ScaleChange(1.0, "want", "cpu", "2", ""),
        ScaleChange(1.5, "start", "cpu", "cpu-1", ""),
        ScaleChange(2.0, "limit", "a.b.cpu", "cpu-0", ""),
        ScaleChange(3.0, "replicate", "a.b.cpu", "cpu-1", ""),
        ScaleChange(4.0, "place", "c.b.cpu", "cpu-1", ""),
        ScaleChange(9.0, "start", "cpu", "cpu-2", ""),
    ]
    assert worker_start_s(changes) == [1.5]


def test_deviation_of_starts_needs_several() -> None:
    assert fit_start([], SCENARIO) is None
    assert fit_start([2.0, 8.0, 4.0, 4.0], SCENARIO) == MeasuredStart(("cpu",), 4.0, Workers().start_deviation)
    fitted = fit_start([2.0, 8.0, 4.0, 4.0, 4.0], SCENARIO)
    assert fitted is not None
    assert (fitted.p50_s, fitted.deviation) == (4.0, pytest.approx(log(2.0) / sqrt(2.0)))


def test_measured_settings_apply_to_a_scenario_and_by_file() -> None:
    measured = MeasuredSettings(delays=BASE, machine=Machine(cpus=2), start=MeasuredStart(("cpu",), 7.0, 0.4))
    applied = measured.apply(SCENARIO, seed=3)
    assert {one.start_s for one in applied.catalogue.hardware} == {7.0}
    assert (applied.workers.start_deviation, applied.machine, applied.seed) == (0.4, Machine(cpus=2), 3)
    read = convert_scenario(msgspec.json.decode(measured.scenario_file()))
    assert read.bounded(SCENARIO.catalogue) == applied.catalogue
    assert (read.workers, read.delays, read.machine) == (applied.workers, applied.delays, applied.machine)
