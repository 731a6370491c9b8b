"""Settings of the autoscaler: `INFAAS_AUTOSCALER_*`, or flags of the same names."""

from enum import StrEnum
from typing import Final

import msgspec
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import ScalingLimits
from process.settings import PlanningSettings


class Policy(StrEnum):
    """What decides on the scale."""

    GREEDY = "greedy"
    MILP = "milp"


DEFAULT_POLICY: Final = Policy.MILP
_LIMITS: Final = ScalingLimits()
_PATIENCE: Final = ReconcileTimeouts()


class AutoscalerSettings(PlanningSettings):
    """How often it looks, how long it remembers, and how far it may go."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_AUTOSCALER_", frozen=True, extra="ignore")

    interval_s: float = Field(default=1.0, gt=0)
    """Between two readings of lag, arrivals and states."""
    retention_s: float = Field(default=3600.0, ge=60)
    """How long the samples of each reading are kept."""
    minute_retention_s: float = Field(default=14 * 86400.0, ge=60)
    """How long the sums of each minute are kept."""
    decisions_retention_s: float = Field(default=30 * 86400.0, ge=60)
    """How long decisions are kept."""
    status_ttl_s: float = Field(default=3.0, gt=0)
    """A worker lives if its status is younger, even when its heartbeat cannot reach the database."""
    memory_share: float = Field(default=_LIMITS.memory_share, gt=0, le=1)
    """Share of a worker's memory that variants may be placed into; the rest is for queries in flight."""
    instances_per_slot: int = Field(default=_LIMITS.instances_per_slot, ge=1)
    """Most variants a worker hosts for each batch it can compute at once."""
    keep_idle_s: float = Field(default=_LIMITS.keep_idle_s, ge=0)
    """How long a variant that another beats in everything stays after its last use."""
    evict_idle_s: float = Field(default=_LIMITS.evict_idle_s, ge=0)
    """How long a variant must have been idle to give way to one that is demanded."""
    scale_to_zero_delay_s: float = Field(default=_LIMITS.scale_to_zero_delay_s, gt=0)
    """How long nobody must have asked for a task until all of it is unloaded; the next query pays for a load. Never,
    unless you say so: what is idle gives way to what is demanded in any case."""
    headroom: float = Field(default=_LIMITS.headroom, ge=1)
    """Throughput wanted over load. Queries arrive unevenly: the closer to 1, the longer they wait for each other."""
    downscale_delay_s: float = Field(default=_LIMITS.downscale_delay_s, ge=0)
    """How long an instance must not have been needed until it goes, at least."""
    downscale_delay_loads: float = Field(default=_LIMITS.downscale_delay_loads, ge=0)
    """The same in load times of its variant."""
    worker_downscale_delay_s: float = Field(default=_LIMITS.worker_downscale_delay_s, ge=0)
    """How long a worker must not have been needed until it goes, at least."""
    worker_downscale_delay_starts: float = Field(default=_LIMITS.worker_downscale_delay_starts, ge=0)
    """The same in start times of its hardware."""
    leader_grace_s: float = Field(default=_LIMITS.leader_grace_s, ge=0)
    """How long after taking the lead no worker is taken for dead."""

    launcher: str = "none"
    """What starts and stops workers: `none`, `processes` (of this machine, kept by `infaas up`), or a cluster's."""
    policy: Policy = DEFAULT_POLICY
    """What decides: a solver, with the greedy rules between two solves and where it fails; or those rules alone."""
    solve_interval_s: float = Field(default=5.0, gt=0)
    """Between two runs of the solver."""
    min_workers: dict[str, int] = Field(default_factory=dict)
    """By hardware: how many workers stay even without load. A person's pin goes before."""
    worker_drain_timeout_s: float = Field(default=_PATIENCE.worker_drain_timeout_s, gt=0)
    """How long a worker that is to end may keep what it hosts."""
    liveness_timeout_s: float = Field(default=_PATIENCE.liveness_timeout_s, ge=5)
    """A worker whose process is there, but which says nothing for so long, is started anew."""
    niceness: int = Field(default=10, ge=0, le=19)
    """Where it shares a machine with the way of the queries, it lets that go first."""

    @property
    def limits(self) -> ScalingLimits:
        """What the decision needs of these."""
        return msgspec.convert(self, ScalingLimits, from_attributes=True)

    @property
    def patience(self) -> ReconcileTimeouts:
        """What keeping the workers needs of these."""
        return msgspec.convert(self, ReconcileTimeouts, from_attributes=True)
