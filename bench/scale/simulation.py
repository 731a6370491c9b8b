"""CPU time and memory of the simulator: a Poisson load with a scaled fleet of the shipped catalogue, on one core.

Each size runs in a process of its own. Its memory grows with the trace and the outcomes, which percentiles need.
"""

import resource
import time
from typing import Final, NamedTuple

from bench.core.figures import Figure, plain, within
from bench.simulations import SEED
from simulator.replications import spawned_pool
from simulator.scenario_file import ScenarioFile
from simulator.simulation import simulate
from simulator.summary import summarize

QUERIES: Final = 1_000_000
LIMIT_S: Final = 60.0
_RATE: Final = 500.0
_TENTH: Final = 10


class _Cost(NamedTuple):
    cpu_s: float
    memory_bytes: int


async def measure() -> list[Figure]:
    """Measure both sizes; takes a minute or two."""
    less, most = (_alone(queries) for queries in (QUERIES // _TENTH, QUERIES))
    name = f"simulation of {QUERIES:,} queries"
    added = (most.memory_bytes - less.memory_bytes) / (QUERIES - QUERIES // _TENTH)
    return [
        within(f"{name}: CPU", "none", most.cpu_s, "s", LIMIT_S),
        plain(f"{name}: memory of its process, peak", "none", most.memory_bytes / (1 << 20), "MiB"),
        plain(f"{name}: memory a query, beyond the first tenth", "none", added, "B"),
    ]


def _alone(queries: int) -> _Cost:
    with spawned_pool(1) as pool:
        return pool.submit(_cost, queries).result()


def _cost(queries: int) -> _Cost:
    began_s = time.process_time()
    workload = f"poisson:rate={_RATE:g},seconds={queries / _RATE:g},tasks=image-classification,latency_ms=200"
    scenario = ScenarioFile(workload=workload, catalogue="infaas-44x270")
    summarize(simulate(scenario.scenario(SEED)))
    return _Cost(time.process_time() - began_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
