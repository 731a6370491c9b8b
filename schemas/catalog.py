"""Catalog: the registered and usable tasks, models and variants, as one immutable value.

Services decide on it. `store.catalog` reads it and keeps it current.
"""

import msgspec

from schemas.access import Access
from schemas.rows.catalog import Architecture, Profile, Task, Variant
from schemas.rows.tenants import Tenant
from schemas.versions import Rollout


class Catalog(msgspec.Struct, frozen=True):
    """Consistent snapshot of the registry. Entries are keyed by name, profiles by variant."""

    tasks: dict[str, Task] = {}
    architectures: dict[str, Architecture] = {}
    variants: dict[str, Variant] = {}
    """Variants in the state `ready`."""
    profiles: dict[str, Profile] = {}
    """Profiles of `variants`."""
    rollouts: dict[str, Rollout] = {}
    """Rollouts by model, for models with several versions."""
    access: dict[str, Access] = {}
    """Access of tasks and models that have an owner or are not public."""
    removing: frozenset[str] = frozenset()
    """Names of tasks that are being unregistered. They are not in `tasks`, but queries for them still get an answer."""
    tenants: dict[str, Tenant] = {}
    """Tenants with topics of their own, including tenants that are being removed, whose queries are still answered."""
