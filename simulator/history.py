"""Samples of the fleet over time."""

from dataclasses import dataclass

from simulator.cluster.cluster import Cluster


@dataclass(frozen=True, slots=True)
class FleetSample:
    """The fleet at one time."""

    at_s: float
    """Seconds of the trace."""
    workers: dict[str, int]
    """Workers that are up, by hardware."""
    instances: dict[str, int]
    """Instances that serve, by variant."""
    busy: dict[str, float]
    """Share of the slots that compute, by hardware."""
    waiting: int
    """Queries that were sent and are not answered."""
    usd_per_hour: float
    """Price of all workers, starting ones included."""


def sample_fleet(cluster: Cluster, held: int, at_s: float) -> FleetSample:
    """Return the present state of the fleet; `held` queries wait outside of the cluster."""
    workers: dict[str, int] = {}
    instances: dict[str, int] = {}
    busy: dict[str, float] = {}
    for worker in cluster.workers.values():
        hardware = worker.hardware.name
        workers[hardware] = workers.get(hardware, 0) + 1
        busy[hardware] = busy.get(hardware, 0.0) + worker.busy
        for name, instance in worker.instances.items():
            if instance.is_serving:
                instances[name] = instances.get(name, 0) + 1
    return FleetSample(
        at_s=at_s,
        workers=workers,
        instances=instances,
        busy={name: slots / (workers[name] * cluster.hardware[name].slots) for name, slots in busy.items()},
        waiting=held + sum(log.lag for v in cluster.variants.values() for pair in v.partitions for log in pair),
        usd_per_hour=cluster.usd_per_hour,
    )
