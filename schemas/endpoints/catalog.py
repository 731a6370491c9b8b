"""What is registered, over the admin API: tasks, models, variants and their profiles, as who asks sees them."""

from typing import Final

import msgspec

from schemas.access import PUBLIC, Access
from schemas.endpoints.endpoint import Endpoint, Nothing
from schemas.principal import Role
from schemas.rows.catalog import Architecture, Profile, Task, Variant
from schemas.rows.placement import CorrectionRow


class ListedTask(Task, frozen=True, kw_only=True):
    """A task, and who may use it."""

    access: Access = PUBLIC


class ModelsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Models are wanted, of all tasks or of one."""

    task: str | None = None


class ListedModel(Architecture, frozen=True, kw_only=True):
    """A version of a model, and who may use it."""

    access: Access = PUBLIC


class VariantsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Variants are wanted, of all tasks or of one."""

    task: str | None = None


class ListedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant, with what was measured and seen of it."""

    variant: Variant
    profile: Profile | None
    """None: it was not measured."""
    measure: str
    """What accuracy means of its task."""
    failed: dict[str, str] = {}
    """Why it could not be loaded, by worker; for administrators."""
    corrections: tuple[CorrectionRow, ...] = ()
    """Where it takes longer than was measured; for administrators."""
    dominated_by: str = ""
    """A variant that is better in everything, of those that who asks may use; empty: none is."""


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a variant is wanted."""

    variant: str


class MeasuredVariant(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a variant."""

    profile: Profile
    measure: str
    """What accuracy means of its task."""
    tuning: str = ""
    """How its numbers were chosen; empty where there was no choice."""
    corrections: tuple[CorrectionRow, ...] = ()
    """Where it takes longer than was measured; for administrators."""


class ComparisonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How the variants of a task compare is wanted."""

    task: str


class ComparedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of a variant where it is compared with others of its task."""

    variant: str
    architecture: str
    label: str
    """Runtime and precision: the middle part of its name."""
    accuracy: float
    """By the measure of its task, 0..1."""
    latency_s: float
    """Seconds of one input."""
    cost: float
    """USD of 1000 inputs at the batch size that is cheapest for it, at list prices."""
    dominated_by: str = ""
    """A variant that is better in everything, of those that who asks may use; empty: none is."""


TASKS: Final = Endpoint(
    name="tasks.list",
    method="GET",
    path="/v1/tasks",
    role=Role.QUERY,
    request=Nothing,
    result=list[ListedTask],
    summary="List the tasks that clients can ask for.",
)
MODELS: Final = Endpoint(
    name="models.list",
    method="GET",
    path="/v1/models",
    role=Role.QUERY,
    request=ModelsRequest,
    result=list[ListedModel],
    summary="List the versions of models that were registered, of all tasks or of one.",
)
VARIANTS: Final = Endpoint(
    name="variants.list",
    method="GET",
    path="/v1/variants",
    role=Role.QUERY,
    request=VariantsRequest,
    result=list[ListedVariant],
    summary="List the variants that were made of the models, with what was measured of them.",
)
PROFILE: Final = Endpoint(
    name="variants.profile",
    method="GET",
    path="/v1/variants/{variant}/profile",
    role=Role.QUERY,
    request=ProfileRequest,
    result=MeasuredVariant,
    summary="Show what was measured of a variant: load time, latency per batch size, memory, accuracy.",
)
COMPARISON: Final = Endpoint(
    name="tasks.compare",
    method="GET",
    path="/v1/tasks/{task}/comparison",
    role=Role.QUERY,
    request=ComparisonRequest,
    result=list[ComparedPoint],
    summary="Compare the variants of a task: accuracy, latency, cost, and which are dominated.",
)
CATALOG: Final = (TASKS, MODELS, VARIANTS, PROFILE, COMPARISON)
