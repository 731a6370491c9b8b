from functools import cache
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.query import Mode
from simulator.outcomes import REASONS, QueryOutcome
from simulator.scenario import FaultKind, InflictedFault, Scaling, Scenario, Workers
from simulator.simulation import SimulationResult, simulate
from simulator.summary import summarize
from simulator.trace import QueryKind, Trace
from tests.unit.simulator.scenarios import FIXED, SURE, a_catalogue, a_scenario, a_trace, a_variant

PLAIN = Workers(overhead_s=0.0, interference=0.0)


def latency_ms(result: SimulationResult) -> NDArray[np.float64]:
    return (result.queries.ended_s - result.scenario.trace.time_s) * 1e3


def test_lone_query_takes_hops_and_one_batch() -> None:
    catalogue = a_catalogue(a_variant("small"))
    scenario = a_scenario(
        a_trace(1, 5, even=True), catalogue, placed={"small.onnx-fp32.cpu": 1}, scaling=FIXED, workers=PLAIN
    )
    assert latency_ms(simulate(scenario)) == pytest.approx([14.0] * 5, abs=0.1)  # 3 hops, 0.04 at the selector, 11


def test_single_slot_queues_as_pollaczek_and_khinchine_say() -> None:
    catalogue = a_catalogue(a_variant("small", batch_s=0.0095, input_s=0.0005, max_batch=1), slots=1)
    for rate_per_s in (50, 80):
        load = rate_per_s * 0.010
        scenario = a_scenario(
            a_trace(rate_per_s, 250, QueryKind(task="vision")), catalogue, placed={"small.onnx-fp32.cpu": 1},
            scaling=FIXED, workers=PLAIN,
        )  # fmt: skip
        waited_ms = latency_ms(simulate(scenario)).mean() - 13.04
        assert waited_ms == pytest.approx(10 * load / (2 * (1 - load)), rel=0.15)


def test_batches_grow_until_throughput_meets_the_load() -> None:
    catalogue = a_catalogue(a_variant("small", batch_s=0.010, input_s=0.001, max_batch=16), slots=1)
    scenario = a_scenario(
        a_trace(400, 20, QueryKind(task="vision", latency_ms=200)), catalogue, placed={"small.onnx-fp32.cpu": 1},
        scaling=FIXED, workers=PLAIN,
    )  # fmt: skip
    figures = summarize(simulate(scenario))  # alone 91 a second, in batches of 16 up to 615
    assert figures.attainment > 0.99
    assert figures.utilisation["cpu"] > 0.7


def busy(seconds: float = 12, **fields: Any) -> Scenario:
    catalogue = a_catalogue(a_variant("small", noise=1.4), a_variant("large", batch_s=0.03, accuracy=0.8, noise=1.4))
    kinds = (
        QueryKind(task="vision", latency_ms=100),
        QueryKind(task="vision", latency_ms=300, min_accuracy=0.75, batch=2),
        QueryKind(task="vision", mode=Mode.OFFLINE),
        QueryKind(task="vision", latency_ms=2000, batch=40, tenant="bulk"),
    )
    return a_scenario(a_trace(60, seconds, *kinds), catalogue, **fields)


def columns_of(scenario: Scenario) -> bytes:
    queries = simulate(scenario).queries
    return b"".join(getattr(queries, name).tobytes() for name in type(queries).__slots__)


@pytest.mark.parametrize("fields", [{}, {"selectors": 3, "gateways": 2}], ids=["alone", "several"])
def test_same_seed_gives_the_same_bytes(fields: dict[str, int]) -> None:
    first = columns_of(busy(6, seed=3, **fields))
    assert first == columns_of(busy(6, seed=3, **fields))
    assert first != columns_of(busy(6, seed=4, **fields))


@cache
def calm() -> SimulationResult:
    return simulate(busy(fleet={"cpu": 1}, drain_s=120))


@pytest.mark.parametrize(
    "fault",
    [
        InflictedFault(kind=FaultKind.WORKER_DIES, at_s=4),
        InflictedFault(kind=FaultKind.WORKER_SLOWS, at_s=3, seconds=5, factor=4),
        InflictedFault(kind=FaultKind.AUTOSCALER_STOPS, at_s=0, seconds=15),
        InflictedFault(kind=FaultKind.STATUSES_STOP, at_s=4, seconds=3),
    ],
    ids=lambda fault: fault.kind.value,
)
def test_fault_loses_no_query(fault: InflictedFault) -> None:
    result = simulate(busy(fleet={"cpu": 1}, faults=(fault,), drain_s=120))
    assert (result.queries.outcome != QueryOutcome.WAITING).all()
    if fault.kind is FaultKind.AUTOSCALER_STOPS:
        assert result.changes != calm().changes
    else:
        assert (result.queries.ended_s != calm().queries.ended_s).any()


def test_dead_worker_is_replaced_and_its_queries_computed_elsewhere() -> None:
    catalogue = a_catalogue(a_variant("small"))
    fault = InflictedFault(kind=FaultKind.WORKER_DIES, at_s=30)
    patient = QueryKind(task="vision", latency_ms=60_000)
    both = Scaling(min_workers={"cpu": 2})
    trace = a_trace(50, 60, patient)
    result = simulate(a_scenario(trace, catalogue, fleet={"cpu": 2}, scaling=both, faults=(fault,), seed=2))
    assert (result.queries.outcome == QueryOutcome.ANSWERED).all()
    assert latency_ms(result).max() > 1000  # those at the dead worker waited for its leases to end


def test_restarted_worker_takes_its_own_partitions_back_at_once() -> None:
    catalogue = a_catalogue(a_variant("small", load_s=0.1), slots=1, start_s=0.5)
    death = InflictedFault(kind=FaultKind.WORKER_DIES, at_s=5.0)
    scenario = a_scenario(
        a_trace(20, 15, even=True), catalogue, placed={"small.onnx-fp32.cpu": 1}, faults=(death,),
        scaling=Scaling(min_workers={"cpu": 1}),
    )  # fmt: skip
    result = simulate(scenario)
    missed_s = scenario.trace.time_s[result.queries.outcome != QueryOutcome.ANSWERED]
    assert missed_s.min() >= 5.0
    assert missed_s.max() < 5.0 + 0.5 * scenario.workers.lease_ttl_s


def test_overload_is_refused_with_its_reason() -> None:
    catalogue = a_catalogue(a_variant("small", max_batch=1), slots=1, maximum=1)
    result = simulate(a_scenario(a_trace(300, 20), catalogue))
    figures = summarize(result)
    assert figures.refused > 0.5 * figures.queries
    assert set(figures.refusals) <= set(REASONS)
    assert figures.late + figures.expired < 0.1 * figures.queries


def test_offline_queries_fill_idle_slots_only() -> None:
    catalogue = a_catalogue(a_variant("small"))
    online = QueryKind(task="vision", latency_ms=100)
    flood = QueryKind(task="vision", mode=Mode.OFFLINE)
    alone = simulate(a_scenario(a_trace(15, 12, online), catalogue, scaling=FIXED, placed={"small.onnx-fp32.cpu": 1}))
    both = simulate(
        a_scenario(a_trace(300, 12, online, *[flood] * 19), catalogue, scaling=FIXED,
                   placed={"small.onnx-fp32.cpu": 1}, drain_s=600)
    )  # fmt: skip
    assert (both.queries.outcome == QueryOutcome.ANSWERED).all()
    assert summarize(both).p99_ms < 3 * summarize(alone).p99_ms


def test_autoscaler_starts_workers_for_load_and_stops_them_after_it() -> None:
    catalogue = a_catalogue(a_variant("small", max_batch=1), slots=1, start_s=5.0)
    quiet, loud = a_trace(10, 40), a_trace(250, 50, seed=2)
    trace = quiet.overlaid([later(loud, 40), later(a_trace(10, 150, seed=3), 90)])
    result = simulate(a_scenario(trace, catalogue, scaling=Scaling()))
    workers = [sample.workers.get("cpu", 0) for sample in result.samples]
    assert max(workers) >= 3
    assert workers[-1] == 1
    assert result.usd < 0.36 * 3 * trace.duration_s / 3600


def later(trace: Trace, seconds: float) -> Trace:
    return Trace(trace.time_s + seconds, trace.kind, trace.kinds)


def test_no_partition_starves_while_another_is_read() -> None:
    scenario = a_scenario(
        a_trace(100, 1, QueryKind(task="vision")), a_catalogue(a_variant("small")), workers=Workers(prefetch_max=2)
    )
    assert summarize(simulate(scenario)).answered == 100


def test_restarted_worker_loads_the_quickest_variant_first() -> None:
    variants = a_variant("big", load_s=8.0, accuracy=0.9), a_variant("small", batch_s=0.005, load_s=0.5)
    dies = InflictedFault(kind=FaultKind.WORKER_DIES, at_s=15)
    catalogue = a_catalogue(*variants, start_s=2.0)
    result = simulate(a_scenario(a_trace(10, 25), catalogue, faults=(dies,), warm_up_s=15.0))
    assert summarize(result).violations < 0.4  # of 10 s, 2 to start and 0.5 to load


def test_start_times_deviate_as_the_scenario_says() -> None:
    catalogue = a_catalogue(a_variant("small", load_s=0.0), start_s=4.0)
    dies = InflictedFault(kind=FaultKind.WORKER_DIES, at_s=5)

    def violations(deviation: float, seed: int) -> float:
        workers, trace = Workers(start_deviation=deviation), a_trace(10, 25, even=True)
        scenario = a_scenario(trace, catalogue, faults=(dies,), warm_up_s=5.0, workers=workers, seed=seed)
        return summarize(simulate(scenario)).violations

    assert len({violations(0.0, seed) for seed in range(4)}) == 1
    assert len({violations(0.5, seed) for seed in range(4)}) > 1


def test_gateways_limit_queries_that_expire_at_selector() -> None:
    catalogue = a_catalogue(a_variant("small", batch_s=0.001, input_s=0.0), slots=4)
    scenario = a_scenario(
        a_trace(150, 20, QueryKind(task="vision", latency_ms=100)), catalogue, placed={"small.onnx-fp32.cpu": 1},
        scaling=FIXED, gateways=1, delays=replace(SURE, selector_s=0.01),
    )  # fmt: skip
    figures = summarize(simulate(scenario))  # the selector decides on 100 a second, and does not see its own queue
    assert figures.attainment > 0.4
