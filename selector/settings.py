"""Settings of a selector process: `INFAAS_SELECTOR_*`."""

import os
import socket
from typing import Final

import msgspec
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from process.settings import PlanningSettings
from selector.cluster_state import STATUS_TTL_S
from selector.policy import PolicyConfig
from selector.received_query import TenantHeaders

_POLICY: Final = PolicyConfig()


class SelectorSettings(PlanningSettings):
    """Settings read from `INFAAS_SELECTOR_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_SELECTOR_", frozen=True, extra="ignore")

    instance_id: str = Field(default_factory=lambda: f"selector-{socket.gethostname()}-{os.getpid()}")
    """Name unique among running selectors: one that restarts under its old name gets its partitions back at once."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Most queries taken from the task topics and not yet acknowledged in the next topic."""
    batch: int = Field(default=200, ge=1)
    """Most queries decided on before the event loop turns to the network again."""
    status_ttl_s: float = Field(default=STATUS_TTL_S, gt=0)
    """Seconds after its last status for which a worker counts as alive."""
    startup_listen_s: float = Field(default=0.3, ge=0)
    """Seconds that a starting selector listens to the workers before it decides anything."""
    upgrades: bool = _POLICY.upgrades
    """Whether a query may be given, for the same price, to a more accurate instance that is loaded and idle."""
    upgrade_share: float = Field(default=_POLICY.upgrade_share, ge=0, le=1)
    """Share of a worker's slots that upgrades may fill at most."""
    upgrade_cpu_limit: float = Field(default=_POLICY.upgrade_cpu_limit, ge=0, le=1)
    """Share of a machine's CPU time in use, by whomever, from which on nothing is upgraded there."""
    tenant_headers: TenantHeaders = TenantHeaders.BELIEVED
    """What a tenant's name in the header `infaas-tenant` counts for that nothing proves: `believed`, `ignored`, or
    `refused`. What is signed, or came in by a tenant's own topic, is that tenant's in any case."""
    signature_window_s: float = Field(default=300.0, gt=0)
    """Seconds between the time in a query's signature and that at which Kafka got it, at most: what is older may have
    been kept by somebody, and is refused."""
    tenants: tuple[str, ...] = _POLICY.tenants
    """Tenants that have a share of their own under overload, as JSON: `["acme", "globex"]`. A name is believed, not
    proved: the list keeps names that clients invent from taking shares, it keeps nobody from using another's name."""
    max_unlisted_tenants: int = Field(default=_POLICY.max_unlisted_tenants, ge=0)
    """Tenants not on the list, those that name none among them, that have a share of their own; the rest share one. 0:
    all who are not on the list share one."""
    demand_interval_s: float = Field(default=0.5, gt=0)
    """Seconds between two demands for the same variant to the autoscaler."""
    attempts: int = Field(default=3, ge=1)
    """Number of times that a query is forwarded before it becomes a dead letter."""

    def policy_config(self) -> PolicyConfig:
        """The settings that the policy needs."""
        return msgspec.convert(self, PolicyConfig, from_attributes=True)
