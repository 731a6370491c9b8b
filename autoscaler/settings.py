"""Settings of the autoscaler: `INFAAS_AUTOSCALER_*`, or flags of the same names."""

from typing import Final

import msgspec
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import Policy, ScalingLimits
from autoscaler.observe.status_cache import STATUS_TTL_S
from process.settings import PlanningSettings
from schemas.defaults import CLAIM_INTERVAL_S

DEFAULT_POLICY: Final = Policy.MILP
_LIMITS: Final = ScalingLimits()
_TIMEOUTS: Final = ReconcileTimeouts()


class AutoscalerSettings(PlanningSettings):
    """Settings of the autoscaler: intervals, retention, and limits of scaling."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_AUTOSCALER_", frozen=True, extra="ignore")

    interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two readings of lag, arrivals and states."""
    retention_s: float = Field(default=3600.0, ge=60)
    """Seconds for which samples of each reading are kept."""
    minute_retention_s: float = Field(default=14 * 86400.0, ge=60)
    """Seconds for which sums of each minute are kept."""
    decisions_retention_s: float = Field(default=30 * 86400.0, ge=60)
    """Seconds for which decisions are kept."""
    audit_retention_s: float = Field(default=365 * 86400.0, ge=86400)
    """Seconds for which the audit log of administrators is kept; at least a day."""
    trim_interval_s: float = Field(default=30.0, gt=0)
    """Seconds between two deletions of committed records from Kafka."""
    sweep_interval_s: float = Field(default=300.0, gt=0)
    """Seconds between two checks of topic sizes and for abandoned reply topics."""
    reply_topic_age_s: float = Field(default=3600.0, ge=3 * CLAIM_INTERVAL_S)
    """Seconds without a claim by its owner after which a reply topic is deleted."""
    topic_alarm_bytes: int = Field(default=10 * 1024**3, ge=1)
    """Size in bytes of a topic of queries from which on there is an alarm; a backlog shrinks only by being answered."""
    status_ttl_s: float = Field(default=STATUS_TTL_S, gt=0)
    """Seconds for which a worker's status counts as a sign of life, even if its heartbeat cannot reach the database."""
    memory_share: float = Field(default=_LIMITS.memory_share, gt=0, le=1)
    """Share of a worker's memory that instances may use; the rest is for queries in flight."""
    instances_per_slot: int = Field(default=_LIMITS.instances_per_slot, ge=1)
    """Maximum number of instances on a worker, per slot."""
    keep_idle_s: float = Field(default=_LIMITS.keep_idle_s, ge=0)
    """Seconds for which a dominated variant stays after its last use."""
    evict_idle_s: float = Field(default=_LIMITS.evict_idle_s, ge=0)
    """Least idle time in seconds before an instance is evicted for a demanded variant."""
    evict_idle_loads: float = Field(default=_LIMITS.evict_idle_loads, ge=0)
    """Least idle time before an eviction for a demanded variant, as a multiple of the variant's load time."""
    scale_to_zero_delay_s: float = Field(default=_LIMITS.scale_to_zero_delay_s, gt=0)
    """Seconds without a query after which a task is unloaded completely; the next query then waits for a load. Default:
    never. Idle instances are evicted for demanded ones in any case.
    """
    headroom: float = Field(default=_LIMITS.headroom, ge=1)
    """Ratio of wanted throughput to load at one busy slot; it is smaller at many, because their load varies less. The
    closer to 1, the longer queries wait for each other.
    """
    offline_drain_s: float = Field(default=_LIMITS.offline_drain_s, gt=0)
    """Seconds in which to work off a backlog of offline queries without an earlier deadline, if idle time does not
    suffice."""
    downscale_delay_s: float = Field(default=_LIMITS.downscale_delay_s, ge=0)
    """Least time in seconds that an instance or a worker was not needed before it is removed."""
    downscale_delay_loads: float = Field(default=_LIMITS.downscale_delay_loads, ge=0)
    """Least time that an instance was not needed before it is removed, as a multiple of its variant's load time."""
    worker_downscale_delay_starts: float = Field(default=_LIMITS.worker_downscale_delay_starts, ge=0)
    """Least time that a worker was not needed, or was disturbed by other programs, before it is removed or replaced, as
    a multiple of its hardware's start time.
    """
    leader_grace_s: float = Field(default=_LIMITS.leader_grace_s, ge=0)
    """Seconds after taking the lead during which no worker counts as dead."""

    launcher: str = "none"
    """Launcher of workers: `none`, `processes` (of this machine, by `infaas up`), `kubernetes` or `ray`."""
    policy: Policy = DEFAULT_POLICY
    """Scaling policy: `milp` is a solver, with a heuristic in between; `greedy` is the heuristic alone."""
    solve_interval_s: float = Field(default=5.0, gt=0)
    """Seconds between two runs of the solver."""
    min_workers: dict[str, int] = Field(default_factory=dict)
    """Minimum of workers even without load, by hardware, as JSON: `{"cpu": 2}`. Pins have priority."""
    worker_drain_timeout_s: float = Field(default=_TIMEOUTS.worker_drain_timeout_s, gt=0)
    """Seconds for which a draining worker may keep its instances."""
    liveness_timeout_s: float = Field(default=_TIMEOUTS.liveness_timeout_s, ge=5)
    """Seconds of silence after which a worker is replaced even if its process exists."""
    niceness: int = Field(default=10, ge=0, le=19)
    """Niceness of the process, so that processes that answer queries on the same machine have priority."""

    @property
    def limits(self) -> ScalingLimits:
        """Limits of a decision, from these settings."""
        return msgspec.convert(self, ScalingLimits, from_attributes=True)

    @property
    def reconcile_timeouts(self) -> ReconcileTimeouts:
        """Timeouts of reconciliation, from these settings."""
        return msgspec.convert(self, ReconcileTimeouts, from_attributes=True)
