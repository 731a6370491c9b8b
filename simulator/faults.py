"""Infliction of the faults of a scenario."""

from typing import assert_never

from simulator.cluster.cluster import Cluster
from simulator.cluster.worker import SimulatedWorker
from simulator.scenario import FaultKind, InflictedFault
from simulator.system import SimulatedSystem


def inflict(fault: InflictedFault, cluster: Cluster, system: SimulatedSystem) -> None:
    """Inflict a fault now."""
    until_s = cluster.events.now + fault.seconds
    match fault.kind:
        case FaultKind.WORKER_DIES:
            worker = _worker(cluster, fault.number)
            if worker is not None:
                worker.die(cluster.scenario.workers.lease_ttl_s)
                del cluster.workers[worker.name]
                system.worker_died(worker.name)
        case FaultKind.WORKER_SLOWS:
            worker = _worker(cluster, fault.number)
            if worker is not None:
                worker.slow_factor = fault.factor
                cluster.events.at(until_s, _recover, worker)
        case FaultKind.AUTOSCALER_STOPS:
            system.stop_scaling_until(until_s)
        case FaultKind.STATUSES_STOP:
            system.statuses_stop_until = until_s
        case _:
            assert_never(fault.kind)


def _worker(cluster: Cluster, number: int) -> SimulatedWorker | None:
    names = sorted(cluster.workers)
    return cluster.workers[names[number % len(names)]] if names else None


def _recover(worker: SimulatedWorker) -> None:
    worker.slow_factor = 1.0
