"""Tests of the numbered invariants: a simulation whose state is falsified in its middle ends with an error."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from simulator.cluster.instance import SimulatedBatch, SimulatedInstance
from simulator.cluster.worker import SimulatedWorker
from simulator.invariants import InvariantError
from simulator.outcomes import QueryOutcome
from simulator.simulation import BEGIN_S, Simulation
from simulator.trace import QueryKind
from tests.unit.simulator.scenarios import FIXED, a_catalogue, a_scenario, a_trace, a_variant

NAME = "small.onnx-fp32.cpu"
OTHER = "other.onnx-fp32.cpu"
AFTER_S = 0.5


def a_simulation() -> Simulation:
    """Return a simulation of one worker, whose queries wait for each other."""
    catalogue = a_catalogue(a_variant("small"), a_variant("other"))
    trace = a_trace(300, 1, QueryKind(task="vision", latency_ms=1000, target="small"))
    return Simulation(a_scenario(trace, catalogue, placed={NAME: 1}, scaling=FIXED))


def worker_of(simulation: Simulation) -> SimulatedWorker:
    return next(iter(simulation.cluster.workers.values()))


def instance_of(simulation: Simulation) -> SimulatedInstance:
    return worker_of(simulation).instances[NAME]


def answer_twice(simulation: Simulation) -> None:
    for _ in range(2):
        simulation.outcomes.ended(0, QueryOutcome.ANSWERED, simulation.events.now)


def forget_query(simulation: Simulation) -> None:
    simulation.outcomes.open -= 1


def use_slot_twice(simulation: Simulation) -> None:
    worker_of(simulation).busy += worker_of(simulation).hardware.slots


def compute_beyond_footprint(simulation: Simulation) -> None:
    instance_of(simulation).computing += instance_of(simulation).parallel


def enlarge_batches(simulation: Simulation) -> None:
    worker = worker_of(simulation)
    begin = worker.schedule.begin

    def begin_larger(now: float) -> tuple[int, SimulatedBatch] | None:
        begun = begin(now)
        if begun is not None and len(begun[1].parts) > 1:
            begun[1].inputs += 100
        return begun

    worker.schedule.begin = begin_larger  # type: ignore[method-assign]


def steal_partitions(simulation: Simulation) -> None:
    for log in instance_of(simulation).online.values():
        log.owner = None


def lose_lag(simulation: Simulation) -> None:
    for log in instance_of(simulation).online.values():
        log.held -= 1_000


def shrink_memory(simulation: Simulation) -> None:
    worker = worker_of(simulation)
    worker.hardware = replace(worker.hardware, memory_bytes=1)
    worker.begin_instance(simulation.cluster.variants[OTHER], 1)


def arrive_after_answer(simulation: Simulation) -> None:
    simulation.scenario.trace.time_s[0] += 1_000.0


def charge_more(simulation: Simulation) -> None:
    simulation.cluster.usd_per_hour += 1.0


@pytest.mark.parametrize(
    ("number", "falsify"),
    [
        (1, answer_twice),
        (2, forget_query),
        (3, use_slot_twice),
        (4, compute_beyond_footprint),
        (5, enlarge_batches),
        (6, steal_partitions),
        (7, lose_lag),
        (8, shrink_memory),
        (9, arrive_after_answer),
        (10, charge_more),
    ],
)
def test_broken_invariant_ends_the_run_with_its_number(number: int, falsify: Callable[[Simulation], None]) -> None:
    simulation = a_simulation()
    simulation.events.at(BEGIN_S + AFTER_S, falsify, simulation)
    with pytest.raises(InvariantError, match=f"invariant {number} of the simulation is broken"):
        simulation.run()


def test_simulation_without_defect_breaks_no_invariant() -> None:
    assert a_simulation().run().queries.outcome.all()
