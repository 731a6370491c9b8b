"""Settings of the autoscaler: `INFAAS_AUTOSCALER_*`, or flags of the same names."""

from typing import Final

import msgspec
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import Policy, ScalingLimits
from broker.request_reply import CLAIM_INTERVAL_S
from process.settings import PlanningSettings

DEFAULT_POLICY: Final = Policy.MILP
_LIMITS: Final = ScalingLimits()
_TIMEOUTS: Final = ReconcileTimeouts()


class AutoscalerSettings(PlanningSettings):
    """Settings of the autoscaler: how often it looks, how long it remembers, and how far it may go."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_AUTOSCALER_", frozen=True, extra="ignore")

    interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two readings of lag, arrivals and states."""
    retention_s: float = Field(default=3600.0, ge=60)
    """Seconds for which the samples of each reading are kept."""
    minute_retention_s: float = Field(default=14 * 86400.0, ge=60)
    """Seconds for which the sums of each minute are kept."""
    decisions_retention_s: float = Field(default=30 * 86400.0, ge=60)
    """Seconds for which decisions are kept."""
    audit_retention_s: float = Field(default=365 * 86400.0, ge=86400)
    """Seconds for which it is kept what administrators did; a day at least."""
    trim_interval_s: float = Field(default=30.0, gt=0)
    """Seconds between two times at which queries that are done are deleted from Kafka."""
    sweep_interval_s: float = Field(default=300.0, gt=0)
    """Seconds between two looks at how large topics are, and for reply topics that nobody owns any more."""
    reply_topic_age_s: float = Field(default=3600.0, ge=3 * CLAIM_INTERVAL_S)
    """Seconds without a sign of its owner after which a reply topic is deleted."""
    topic_alarm_bytes: int = Field(default=10 * 1024**3, ge=1)
    """Bytes of a topic of queries over which there is an alarm: a backlog is deleted by nothing but being answered."""
    status_ttl_s: float = Field(default=3.0, gt=0)
    """Seconds for which a worker's status proves that it lives, even when its heartbeat cannot reach the database."""
    memory_share: float = Field(default=_LIMITS.memory_share, gt=0, le=1)
    """Share of a worker's memory that variants may be placed into; the rest is for queries in flight."""
    instances_per_slot: int = Field(default=_LIMITS.instances_per_slot, ge=1)
    """Variants that a worker hosts at most, for each batch that it can compute at once."""
    keep_idle_s: float = Field(default=_LIMITS.keep_idle_s, ge=0)
    """Seconds for which a variant that another beats in everything stays after its last use."""
    evict_idle_s: float = Field(default=_LIMITS.evict_idle_s, ge=0)
    """Seconds for which a variant must have been idle to give way to one that is demanded, at least."""
    evict_idle_loads: float = Field(default=_LIMITS.evict_idle_loads, ge=0)
    """Load times of a variant for which it must have been idle to give way to one that is demanded, at least."""
    scale_to_zero_delay_s: float = Field(default=_LIMITS.scale_to_zero_delay_s, gt=0)
    """Seconds without a query after which all of a task is unloaded; the next query then pays for a load. Never, unless
    you say so: what is idle gives way to what is demanded in any case."""
    headroom: float = Field(default=_LIMITS.headroom, ge=1)
    """How many times the load there is throughput for. The closer to 1, the longer queries wait for each other."""
    offline_drain_s: float = Field(default=_LIMITS.offline_drain_s, gt=0)
    """Seconds within which a backlog of offline queries shall be worked off, if idle time does not suffice."""
    downscale_delay_s: float = Field(default=_LIMITS.downscale_delay_s, ge=0)
    """Seconds for which an instance must not have been needed before it goes, at least."""
    downscale_delay_loads: float = Field(default=_LIMITS.downscale_delay_loads, ge=0)
    """Load times of its variant for which an instance must not have been needed before it goes, at least."""
    worker_downscale_delay_s: float = Field(default=_LIMITS.worker_downscale_delay_s, ge=0)
    """Seconds for which a worker must not have been needed before it goes, at least."""
    worker_downscale_delay_starts: float = Field(default=_LIMITS.worker_downscale_delay_starts, ge=0)
    """Start times of its hardware for which a worker must not have been needed before it goes, at least."""
    leader_grace_s: float = Field(default=_LIMITS.leader_grace_s, ge=0)
    """Seconds after taking the lead in which no worker is taken for dead."""

    launcher: str = "none"
    """What starts and stops workers: `none`, `processes` (of this machine, by `infaas up`), `kubernetes` or `ray`."""
    policy: Policy = DEFAULT_POLICY
    """What decides on the scale: `milp`, a solver, with a heuristic in between; or `greedy`, the heuristic alone."""
    solve_interval_s: float = Field(default=5.0, gt=0)
    """Seconds between two runs of the solver."""
    min_workers: dict[str, int] = Field(default_factory=dict)
    """Workers that stay even without load, by hardware, as JSON: `{"cpu": 2}`. A person's pin goes before."""
    worker_drain_timeout_s: float = Field(default=_TIMEOUTS.worker_drain_timeout_s, gt=0)
    """Seconds for which a worker that is to end may keep what it hosts."""
    liveness_timeout_s: float = Field(default=_TIMEOUTS.liveness_timeout_s, ge=5)
    """Seconds of silence after which a worker is replaced though its process is there."""
    niceness: int = Field(default=10, ge=0, le=19)
    """Niceness of the process: where it shares a machine with what answers queries, that goes first."""

    @property
    def limits(self) -> ScalingLimits:
        """Limits of a decision, out of these settings."""
        return msgspec.convert(self, ScalingLimits, from_attributes=True)

    @property
    def reconcile_timeouts(self) -> ReconcileTimeouts:
        """Timeouts of reconciling workers, out of these settings."""
        return msgspec.convert(self, ReconcileTimeouts, from_attributes=True)
