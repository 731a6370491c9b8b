"""Tests of the machine that workers and services share."""

import pytest

from simulator.cluster.machine import SharedMachine
from simulator.events import EventQueue
from simulator.scenario import Machine
from simulator.simulation import simulate
from simulator.summary import Summary, summarize
from tests.unit.simulator.scenarios import FIXED, a_catalogue, a_scenario, a_trace, a_variant

BUSY = Machine(cpus=2, query_cpu_s=0.01)


def test_services_slow_batches_by_their_share_of_cpus() -> None:
    events = EventQueue()
    machine = SharedMachine(BUSY, events)
    for number in range(400):
        events.now = number * 0.01
        machine.arrived()
        machine.forwarded()
    assert machine.slowdown() == pytest.approx(1.5, rel=0.02), "100 queries a second take a CPU, one of two"
    events.now += 10
    assert machine.slowdown() == pytest.approx(1.0)


def test_use_of_machine_holds_batches_services_and_others() -> None:
    events = EventQueue()
    machine = SharedMachine(Machine(cpus=4, other_cpu=0.25), events)
    machine.begin(2)
    events.now = 10.0
    assert machine.used() == pytest.approx(0.75)
    machine.end(2)
    events.now = 20.0
    assert machine.used() == pytest.approx(0.25)


def run(machine: Machine | None, rate_per_s: float = 5) -> Summary:
    cheap, dear = a_variant("small", accuracy=0.7), a_variant("large", accuracy=0.9, batch_s=0.02)
    placed = {"small.onnx-fp32.cpu": 1, "large.onnx-fp32.cpu": 1}
    scenario = a_scenario(
        a_trace(rate_per_s, 10), a_catalogue(cheap, dear), scaling=FIXED, placed=placed, machine=machine
    )
    return summarize(simulate(scenario))


def test_queries_are_upgraded_only_on_idle_machines() -> None:
    assert run(Machine(cpus=2)).accuracy > 0.75
    assert run(Machine(cpus=2, other_cpu=0.9)).accuracy == pytest.approx(0.7)


def test_clients_keep_queries_of_busy_machines_back() -> None:
    alone, shared = run(None, 200), run(Machine(cpus=2, other_cpu=1.0), 200)
    assert shared.p50_ms > alone.p50_ms + 3
