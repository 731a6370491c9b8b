"""Tests of the ablation: its switches fit the code and are undone, and its page shows what exceeds the noise."""

from typing import Any

import pytest

from bench.ablation.differences import Difference, differences
from bench.ablation.inventory import MECHANISMS
from bench.ablation.mechanism import AblatedMechanism, Area, lines_of, split_place, with_setting
from bench.ablation.page import page
from bench.ablation.sensitivity import ASSUMPTIONS, SETTINGS, sensitivity_trials
from bench.ablation.trial import AblationFigures, AblationTrial
from bench.ablation.workloads import WORKLOADS
from simulator.trace import QueryKind
from tests.unit.simulator.scenarios import a_catalogue, a_scenario, a_trace, a_variant


def values_of(mechanism: AblatedMechanism) -> list[Any]:
    """Return what its patches replace."""
    return [vars(holder)[name] for holder, name in map(split_place, mechanism.patches)]


def test_every_switch_changes_the_code_and_is_undone() -> None:
    for mechanism in MECHANISMS.values():
        before = values_of(mechanism)
        with mechanism.left_out():
            within = values_of(mechanism)
        assert values_of(mechanism) == before, mechanism.name
        assert all(new is not old for new, old in zip(within, before, strict=True)), mechanism.name


def test_switch_is_undone_after_an_error() -> None:
    mechanism = MECHANISMS["upgrades"]
    before = values_of(mechanism)
    with pytest.raises(ZeroDivisionError), mechanism.left_out():
        raise ZeroDivisionError
    assert values_of(mechanism) == before


def test_code_of_every_mechanism_exists() -> None:
    assert all(mechanism.lines() > 0 for mechanism in MECHANISMS.values())


def test_every_mechanism_is_simulated_or_says_why_not() -> None:
    for mechanism in MECHANISMS.values():
        assert bool(mechanism.unseen) is not bool(mechanism.patches or mechanism.settings), mechanism.name
        assert mechanism.unseen or any(mechanism.area in one.areas for one in WORKLOADS.values())


def test_settings_exist_in_scenarios() -> None:
    scenario = a_scenario(a_trace(1, 1, QueryKind(task="vision")), a_catalogue(a_variant("small")))
    for mechanism in MECHANISMS.values():
        assert (mechanism.changed(scenario) != scenario) is bool(mechanism.settings)
    for setting, value in (SETTINGS | ASSUMPTIONS).items():
        assert with_setting(scenario, setting, value * 2) != scenario or value == 0.0


def test_unknown_place_is_an_error() -> None:
    for place in ("selector.policy.selection:no_such_step", "selector.policy.no_such_module"):
        with pytest.raises(LookupError):
            lines_of(place)


def test_lines_include_docstrings_of_constants() -> None:
    assert lines_of("selector.policy.choice:PolicyConfig.upgrades") == 2
    assert lines_of("bench.ablation.mechanism:_ROOT") == 1


def figures(violations: float, p99_ms: float = 100.0) -> AblationFigures:
    return AblationFigures(violations, violations, p99_ms, 0.8, 1.0, 1.0)


def test_differences_are_of_paired_seeds() -> None:
    results = {
        AblationTrial("bursts", 1): figures(0.10),
        AblationTrial("bursts", 2): figures(0.20),
        AblationTrial("bursts", 1, "upgrades"): figures(0.13, 110.0),
        AblationTrial("bursts", 2, "upgrades"): figures(0.23, 90.0),
    }
    found = {one.figure: one for one in differences(results)["upgrades"]["bursts"]}
    assert str(found["violations"]) == "+3.0 ±0.0 pp"
    assert found["violations"].is_noticeable
    assert found["violations"].is_worse
    assert not found["p99_ms"].is_noticeable  # more with one seed, less with the other


@pytest.mark.parametrize(
    ("difference", "noticeable", "worse"),
    [
        (Difference("usd_per_hour", 0.009, 0.0), False, True),
        (Difference("usd_per_hour", 0.02, 0.03), False, True),
        (Difference("accuracy", -0.02, 0.001), True, True),
        (Difference("usd_per_hour", -0.02, 0.001), True, False),
    ],
)
def test_difference_counts_from_one_percent_beyond_deviation(
    difference: Difference, noticeable: bool, worse: bool
) -> None:
    assert (difference.is_noticeable, difference.is_worse) == (noticeable, worse)


def test_page_lists_every_mechanism() -> None:
    trials = [AblationTrial("bursts", 1, one.name) for one in MECHANISMS.values() if not one.unseen]
    trials += [one for one in sensitivity_trials([*SETTINGS, *ASSUMPTIONS], [1]) if one.workload == "bursts"]
    results = {AblationTrial("bursts", 1): figures(0.1)} | {trial: figures(0.15) for trial in trials}
    text = page(differences(results), "seed 1")
    assert all(f"| {name} |" in text for name in MECHANISMS)
    assert all(f"### {area.capitalize()}" in text for area in Area)
    assert "| upgrades | +5.0 ±0.0 pp |" in text
    assert "| `upgrade_cpu_limit` | 0.375 | +5.0 ±0.0 pp |" in text
    assert "| `workers.interference` | 0.1 | +5.0 ±0.0 pp |" in text
