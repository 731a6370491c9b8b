"""Tests of the peer benchmark's report: figures are ratios of two trials of a run, and the table lists kept trials."""

import pytest

from bench.peers import ours
from bench.peers.report import KeptTrial, figures_of, trial_table
from bench.peers.trial import ClosedLoop, Trial


def trial(server: str, workload: str, goodput: float, accepted: float = 0.0, in_time: float = 1.0) -> Trial:
    return Trial(
        server=server,
        workload=workload,
        settings="2 workers",
        closed=[ClosedLoop(connections, goodput, 1.0, 2.0) for connections in (1, 16, 64)],
        goodput=goodput,
        goodput_p50_ms=1.0,
        goodput_p99_ms=40.0,
        cpu_ms={"gateway": 0.3, "workers": 0.2, "java": 0.5},
        client_cpu_ms=0.02,
        overload_accepted=accepted,
        overload_in_time=in_time,
    )


def test_figures_of_returns_ratio_of_two_trials() -> None:
    figures = {
        each.name: each for each in figures_of([trial(ours.BY_HTTP, "S", 1500.0), trial("mlserver", "S", 1000.0)])
    }
    figure = figures["S goodput by HTTP, pinned, over MLServer's"]
    assert (figure.value, figure.baseline, figure.ratio, figure.passed) == (1500.0, 1000.0, 1.5, True)


def test_figures_of_mnist_mix_use_accurate_enough_model() -> None:
    (figure,) = figures_of([trial(ours.BY_TASK, "mnist mix", 1000.0), trial("mlserver", "S", 1000.0)])
    assert (figure.ratio, figure.passed) == (1.0, False)


def test_figures_of_include_floor_of_bare_kafka_program() -> None:
    figures = figures_of([trial(ours.BY_HTTP, "H", 900.0), trial("bare-kafka", "H", 1000.0)])
    floor = figures[0]
    assert (floor.name, floor.ratio) == ("H goodput by HTTP, pinned, over a bare program's by Kafka", 0.9)


def test_figures_of_skip_unmeasured_pairs() -> None:
    assert figures_of([trial("triton", "S", 1500.0), trial("mosec", "H", 1000.0)]) == []


@pytest.mark.parametrize(("in_time", "accepted", "passed"), [(0.96, 950.0, True), (0.94, 950.0, False)])
def test_figures_of_overload_need_accepted_in_time(in_time: float, accepted: float, passed: bool) -> None:
    share, load, goodput = figures_of([trial(ours.BY_HTTP, "S", 1000.0, accepted, in_time)])
    assert share.value == pytest.approx(100 * in_time)
    assert share.passed is passed
    assert (load.value, load.baseline, load.passed) == (accepted, 1000.0, True)
    assert goodput.value == pytest.approx(accepted * in_time)


def test_trial_table_separates_broker_cpu() -> None:
    kept = [KeptTrial(trial(ours.BY_HTTP, "S", 1234.0, 1200.0, 0.95), "abc1234", "2026-01-02", "2 cores")]
    row = trial_table(kept).splitlines()[2]
    assert "| S | ours by HTTP, pinned | 2 workers | 1,234 |" in row
    assert "| 0.50, 0.50, 0.02 |" in row
    assert "| 1,200, 95 % |  | abc1234 | 2026-01-02 | 1 |" in row
