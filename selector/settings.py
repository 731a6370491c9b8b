"""Settings of a selector process: `INFAAS_SELECTOR_*`."""

import os
import socket
from typing import Final

import msgspec
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from process.settings import PlanningSettings
from schemas.defaults import DEMAND_INTERVAL_S
from selector.admission.received_query import TenantHeaders
from selector.policy.choice import PolicyConfig
from selector.policy.cluster_state import STATUS_TTL_S

_POLICY: Final = PolicyConfig()


class SelectorSettings(PlanningSettings):
    """Settings read from `INFAAS_SELECTOR_*`; the common ones from `INFAAS_*`."""

    model_config = SettingsConfigDict(env_prefix="INFAAS_SELECTOR_", frozen=True, extra="ignore")

    instance_id: str = Field(default_factory=lambda: f"selector-{socket.gethostname()}-{os.getpid()}")
    """Name unique among running selectors; a restart under the same name gets its partitions back at once."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Maximum of queries taken from task topics and not yet acknowledged in the next topic."""
    batch: int = Field(default=200, ge=1)
    """Maximum of queries dispatched before the event loop handles the network again."""
    status_ttl_s: float = Field(default=STATUS_TTL_S, gt=0)
    """Seconds after its last status for which a worker counts as alive."""
    startup_listen_s: float = Field(default=0.3, ge=0)
    """Seconds for which a starting selector reads statuses before it dispatches queries."""
    upgrades: bool = _POLICY.upgrades
    """True if a query may go, for the same price, to a more accurate instance that is loaded and idle."""
    upgrade_cpu_limit: float = Field(default=_POLICY.upgrade_cpu_limit, ge=0, le=1)
    """Used share of a machine's CPU time, by any process, from which on nothing is upgraded there."""
    tenant_headers: TenantHeaders = TenantHeaders.BELIEVED
    """Treatment of a tenant's name in the header `infaas-tenant` without proof: `believed`, `ignored` or `refused`.
    Signed queries, and those in a tenant's own topic, always belong to that tenant.
    """
    signature_window_s: float = Field(default=300.0, gt=0)
    """Maximum of seconds between the time in a query's signature and its arrival in Kafka; an older query may be a
    replay and is refused.
    """
    tenants: tuple[str, ...] = _POLICY.tenants
    """Tenants with a share of their own under overload, as JSON: `["acme", "globex"]`. Unproved names are believed
    here: the list keeps invented names from taking shares, but does not protect a listed name from others.
    """
    max_unlisted_tenants: int = Field(default=_POLICY.max_unlisted_tenants, ge=0)
    """Number of unlisted tenants, queries without a tenant among them, with a share of their own; the rest share one.
    0: all unlisted tenants share one.
    """
    demand_interval_s: float = Field(default=DEMAND_INTERVAL_S, gt=0)
    """Seconds between two demands for the same variant."""
    attempts: int = Field(default=3, ge=1)
    """Number of attempts to forward a query before it becomes a dead letter."""

    def policy_config(self) -> PolicyConfig:
        """Return the settings of the policy."""
        return msgspec.convert(self, PolicyConfig, from_attributes=True)
