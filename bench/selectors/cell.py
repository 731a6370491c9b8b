"""One simulation of the study: workers of one slot and variants without batches, so that no queue is absorbed."""

import time
from typing import Final, NamedTuple

from bench.selectors.mechanisms import MECHANISMS
from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.scenario import Scaling, Scenario, Workers
from simulator.simulation import simulate
from simulator.summary import summarize
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.poisson import Poisson
from simulator.workloads.workload import QueryStream, Workload, generate

TUNED_SEED: Final = 11
"""Seed by which the choice among replicas was tuned."""
SEED: Final = 12
"""Seed that is reported."""
SERVICE_S: Final = 0.02
"""Median time of a query: five of them pass between two statuses of a busy worker."""
LATENCY_MS: Final = 100.0
_SPREAD: Final = 1.2
"""Ratio of the p99 of the time of a query to its median."""
_QUERIES: Final = 15_000
"""Queries of a cell at full load, at least; the window is never shorter than `_LEAST_S`."""
_LEAST_S: Final = 0.9
_WARM_UP_S: Final = 0.4


class Cell(NamedTuple):
    """Parameters of one simulation."""

    mechanism: str
    selectors: int
    workers: int
    load: float
    """Utilisation of the workers."""


class CellFigures(NamedTuple):
    """Figures of one simulation."""

    cell: Cell
    queries: int
    violations: float
    p99_ms: float
    cpu_s: float
    """CPU seconds of the simulation."""


def measure(cell: Cell) -> CellFigures:
    """Simulate a cell."""
    began = time.process_time()
    figures = summarize(simulate(scenario(cell), MECHANISMS[cell.mechanism].system))
    took_s = time.process_time() - began
    return CellFigures(cell, figures.queries, figures.violations, figures.p99_ms, took_s)


def scenario(cell: Cell) -> Scenario:
    """Return the scenario of a cell: a fixed fleet that serves one variant of each task."""
    mechanism = MECHANISMS[cell.mechanism]
    tasks = max(cell.selectors // (mechanism.selectors_a_task or cell.selectors), 1)
    catalogue = Catalogue(hardware=(_hardware(cell.workers),), variants=tuple(_variant(one) for one in range(tasks)))
    seconds = _WARM_UP_S + max(_QUERIES * SERVICE_S / cell.workers, _LEAST_S)
    rate = cell.load * cell.workers / SERVICE_S / tasks
    kinds = [KindTemplate(task=one.task, latency_ms=LATENCY_MS) for one in catalogue.variants]
    streams = [QueryStream(arrivals=Poisson(rate=rate), seconds=seconds, mix=Mix(kinds=(kind,))) for kind in kinds]
    return Scenario(
        trace=generate(Workload(streams=tuple(streams)), SEED),
        catalogue=catalogue,
        fleet={"cpu": cell.workers},
        placed={one.name: cell.workers // tasks for one in catalogue.variants},
        selectors=cell.selectors,
        scaling=Scaling(enabled=False),
        workers=Workers(status_interval_s=mechanism.status_interval_s, overhead_s=0.0),
        warm_up_s=_WARM_UP_S,
        drain_s=1.0,
        seed=SEED,
    )


def _hardware(workers: int) -> CatalogueHardware:
    return CatalogueHardware(
        name="cpu", price_per_hour=0.1, memory_bytes=1 << 30, slots=1, start_s=1.0, maximum=workers,
        source="assumed",
    )  # fmt: skip


def _variant(number: int) -> CatalogueVariant:
    return CatalogueVariant(
        name=f"model{number}.onnx-fp32.cpu", task=f"task{number}", architecture=f"model{number}", hardware="cpu",
        runtime="onnx", precision="fp32", max_batch=1, accuracy=0.9, load_s=1.0, memory_bytes=1 << 20,
        latency=(BatchLatency(1, SERVICE_S, _SPREAD * SERVICE_S),), source="assumed",
    )  # fmt: skip
