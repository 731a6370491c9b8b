"""Scenario of a simulation: the load, the catalogue, the fleet, the settings of each service, and the faults."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import Policy, ScalingLimits
from schemas.defaults import LEASE_TTL_S
from schemas.rows.cluster import Pin
from selector.policy.choice import PolicyConfig
from simulator.catalogue import Catalogue
from simulator.durations import Duration, Seconds
from simulator.trace import Trace

Count = Annotated[int, Meta(ge=0, le=100_000)]
"""Number of processes; a larger value is treated as a mistake."""


class Delays(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delays of records and of services. Defaults: Apache Kafka and all services on one machine of two cores."""

    to_selector: Duration = Duration(0.0016, 0.006)
    """From the send of a query until a selector has read it."""
    to_worker: Duration = Duration(0.0016, 0.006)
    """From a selector's send until the worker has read the query."""
    acknowledgement_s: float = 0.001
    """From a selector's send until the broker's acknowledgement."""
    result: Duration = Duration(0.0008, 0.003)
    """From the end of a batch until the client has the result."""
    status: Duration = Duration(0.002, 0.02)
    """From a worker's status until a selector or the autoscaler has read it."""
    selector_s: float = 40e-6
    """CPU time of a selector for a query."""
    placement: Duration = Duration(0.02, 0.2)
    """From a written row until its worker follows it, and from a state until it is in the row."""
    decision_s: float = 0.05
    """From a snapshot until the plan is written."""
    solve_s: float = 0.3
    """From a snapshot until the solver's targets are in effect."""


class FaultKind(StrEnum):
    """Kind of fault."""

    WORKER_DIES = "worker-dies"
    """A worker's process dies; its launcher starts it again."""
    AUTOSCALER_STOPS = "autoscaler-stops"
    """No decision is made."""
    STATUSES_STOP = "statuses-stop"
    """No status of any worker reaches a selector or the autoscaler."""
    WORKER_SLOWS = "worker-slows"
    """Batches of one worker take `factor` times as long."""


class InflictedFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fault that is inflicted once."""

    kind: FaultKind
    at_s: float
    seconds: float = 0.0
    """Duration; a worker that died starts again after its start time in any case."""
    number: int = 0
    """Number of the worker among the running ones, in order of their names."""
    factor: float = 3.0


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the autoscaler."""

    enabled: bool = True
    """False: the fleet and its instances stay as they are at the start."""
    policy: Policy = Policy.MILP
    limits: ScalingLimits = ScalingLimits()
    timeouts: ReconcileTimeouts = ReconcileTimeouts()
    interval_s: float = 1.0
    solve_interval_s: float = 5.0
    min_workers: dict[str, int] = {}
    pins: tuple[Pin, ...] = ()


class Workers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of workers, as in `workers.settings`, slowness of batches beside others, and deviation of starts."""

    status_interval_s: float = 0.1
    status_idle_interval_s: float = 1.0
    lease_ttl_s: float = LEASE_TTL_S
    heartbeat_timeout_s: float = 5.0
    """Seconds without a heartbeat after which a worker's row counts as dead."""
    prefetch_s: float = 1.0
    prefetch_max: int = 1000
    overhead_s: float = 0.0005
    """Seconds of a batch beyond its profile: decoding, a hop to a thread and back, encoding."""
    interference: float = 0.05
    """Relative time that a batch takes more for each other slot of its worker that computes."""
    start_deviation: Annotated[float, Meta(ge=0, le=2)] = 0.1
    """Standard deviation of the logarithm of a worker's start time, whose median is that of its hardware."""


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Machine that workers share with Kafka, the services and the client program."""

    cpus: Annotated[float, Meta(gt=0)]
    query_cpu_s: Seconds = 0.0
    """CPU seconds of Kafka, the services and the client for an answered query, besides its computation."""
    other_cpu: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the CPU time that other programs use, with lower priority."""


class ScenarioSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a simulation besides its load and its catalogue."""

    fleet: dict[str, Count] = {}
    """Workers that run at the start, by hardware."""
    placed: dict[str, Count] = {}
    """Loaded instances at the start, by variant, spread over the workers of its hardware."""
    placed_batch: dict[str, Count] = {}
    """Largest batch of the instances at the start, by variant, where the autoscaler has limited it."""
    selectors: Annotated[int, Meta(ge=1, le=100_000)] = 1
    gateways: Count = 0
    """Gateways through which online queries come; 0: clients write to Kafka themselves."""
    policy: PolicyConfig = PolicyConfig()
    scaling: Scaling = Scaling()
    workers: Workers = Workers()
    delays: Delays = Delays()
    machine: Machine | None = None
    """Machine that all workers share; None: each worker has one of its own."""
    faults: tuple[InflictedFault, ...] = ()
    warm_up_s: Seconds = 0.0
    """Seconds of the trace that figures leave out, because the fleet is still scaled to the load."""
    drain_s: Seconds = 60.0
    """Longest time after the last arrival; queries that are not answered by then count as waiting."""
    seed: Annotated[int, Meta(ge=0)] = 0

    def settings(self) -> dict[str, Any]:
        """Return these settings by name."""
        return {name: getattr(self, name) for name in ScenarioSettings.__struct_fields__}


class Scenario(ScenarioSettings, frozen=True, kw_only=True):
    """Input of a simulation."""

    trace: Trace
    catalogue: Catalogue
