"""Tests of scenario files: the trace that they describe, and the errors that name a wrong field."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoscaler.decide.snapshot import Policy
from schemas.errors import OperatorError
from schemas.query import Mode
from simulator.catalogue import write_catalogue
from simulator.scenario import FaultKind
from simulator.scenario_file import DefaultNeeds, ScenarioFile, convert_scenario, find_system, set_field
from simulator.trace import QueryKind, Trace, write_trace
from tests.unit.simulator.small_catalogue import CATALOGUE

KINDS = (QueryKind(task="digits", min_accuracy=0.95), QueryKind(task="digits", mode=Mode.OFFLINE))


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A scenario of ten queries in ten seconds; the last is offline."""
    write_catalogue(CATALOGUE, tmp_path / "small.json")
    kind = np.array([0] * 9 + [1], np.int32)
    write_trace(Trace(np.arange(1.0, 11.0), kind, KINDS), tmp_path / "ten.csv")
    return {"trace": str(tmp_path / "ten.csv"), "catalogue": str(tmp_path / "small.json")}


def test_scenario_file_speeds_up_cuts_and_limits_trace(given: dict[str, Any]) -> None:
    document = given | {"speed": 2, "cut": [1, None], "queries": 3}
    assert convert_scenario(document).scenario(0).trace.time_s.tolist() == [0.0, 0.5, 1.0]


def test_scenario_file_overlays_traces(given: dict[str, Any]) -> None:
    found = convert_scenario(given | {"overlay": [given["trace"]], "queries": 4}).scenario(0).trace
    assert found.time_s.tolist() == [1.0, 1.0, 2.0, 2.0]


def test_scenario_file_fills_needs_that_queries_lack(given: dict[str, Any]) -> None:
    document = given | {"needs": {"latency_ms": 80, "min_accuracy": 0.5}}
    found = convert_scenario(document).scenario(0).trace
    assert [(kind.latency_ms, kind.min_accuracy) for kind in found.kinds] == [(80, 0.95), (None, 0.5)]


def test_default_needs_leave_given_ones() -> None:
    assert DefaultNeeds().fill(KINDS[0]) == KINDS[0]


def test_scenario_file_converts_texts_and_nested_fields(given: dict[str, Any]) -> None:
    set_field(given, "scaling.limits.headroom", "1.2")
    set_field(given, "scaling.policy", "greedy")
    set_field(given, "delays.status.p50_s", 0.5)
    set_field(given, "delays.status.p99_s", 0.6)
    document = given | {"faults": [{"kind": "worker-dies", "at_s": "3"}], "fleet": {"cpu": "2"}, "maximum": {"cpu": 9}}
    found = convert_scenario(document).scenario(7)
    assert (found.seed, found.fleet, found.catalogue.hardware[0].maximum) == (7, {"cpu": 2}, 9)
    assert (found.scaling.limits.headroom, found.scaling.policy) == (1.2, Policy.GREEDY)
    assert (found.faults[0].kind, found.delays.status.p99_s) == (FaultKind.WORKER_DIES, 0.6)


POISSON = {"arrivals": {"process": "poisson", "rate": 50}, "seconds": 2, "mix": {"kinds": [{"task": "digits"}]}}


@pytest.mark.parametrize("workload", ["poisson:rate=50,seconds=2,tasks=digits", {"streams": [POISSON]}])
def test_scenario_file_draws_workload_by_seed(given: dict[str, Any], workload: object) -> None:
    del given["trace"]
    scenario = convert_scenario(given | {"workload": workload})
    first, again, other = (scenario.scenario(seed).trace for seed in (1, 1, 2))
    assert first.time_s.tolist() == again.time_s.tolist() != other.time_s.tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trace": ""}, "either a trace or a workload"),
        ({"workload": "poisson:rate=1"}, "either a trace or a workload"),
        ({"catalogue": ""}, "needs a catalogue"),
        ({"catalogue": "none.json"}, "cannot read catalogue none.json"),
        ({"fleet": {"gpu": 1}}, "fleet: the catalogue has no 'gpu'; it has cpu"),
        ({"fleet": {"cpu": 4}}, "more than the maximum of 3"),
        ({"placed": {"mlp": 4}}, "placed: the catalogue has no 'mlp'"),
        ({"placed_batch": {"mlp": 4}}, "placed_batch: the catalogue has no 'mlp'"),
        ({"machine": {"cpus": 0}}, "`machine.cpus`"),
        ({"machine": {"cpus": 2, "query_cpu_s": -1}}, "`machine.query_cpu_s`"),
        ({"machine": {"cpus": 2, "other_cpu": 1.5}}, "`machine.other_cpu`"),
        ({"maximum": {"gpu": 4}}, "maximum: the catalogue has no 'gpu'"),
        ({"start_s": {"gpu": 4}}, "start_s: the catalogue has no 'gpu'"),
        ({"warm_up_s": 10}, "within the warm-up"),
        ({"queries": 0}, "within the warm-up"),
        ({"flet": {}}, "unknown field `flet`"),
        ({"fleet": {"cpu": -1}}, "fleet"),
        ({"speed": 0}, "`speed`"),
        ({"faults": [{"kind": "quake", "at_s": 1}]}, "faults"),
        ({"scaling": {"limits": {"headrom": 2}}}, "no field `scaling.limits.headrom`; known: memory_share"),
        ({"policy": {"upgrade": False}}, "no field `policy.upgrade`"),
        ({"scaling": {"pins": [{"kind": "task", "name": "x", "max": 3}]}}, r"no field `scaling.pins\[0\].max`"),
    ],
)
def test_scenario_file_names_fault(given: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        convert_scenario(given | changes).scenario(0)


def test_scenario_file_names_unknown_task(given: dict[str, Any], tmp_path: Path) -> None:
    write_trace(Trace(np.ones(1), np.zeros(1, np.int32), (QueryKind(task="faces"),)), tmp_path / "ten.csv")
    with pytest.raises(OperatorError, match="no variant of the task 'faces'; its tasks: digits"):
        convert_scenario(given).scenario(0)


def test_set_field_refuses_path_through_value() -> None:
    with pytest.raises(OperatorError, match="seed has no fields"):
        set_field({"seed": 1}, "seed.more", 1)


def test_find_system_names_known_ones() -> None:
    with pytest.raises(OperatorError, match=r"no system 'magic'; known: .*infaas"):
        find_system("magic")
    assert find_system(ScenarioFile().system).__name__ == "InfaasSystem"
