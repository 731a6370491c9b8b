"""Catalog endpoints of the admin API: the tasks, models, variants and profiles that the caller may see."""

from typing import Final

import msgspec

from schemas.access import PUBLIC, Access
from schemas.endpoints.endpoint import Empty, Endpoint
from schemas.principal import Role
from schemas.rows.catalog import Architecture, Profile, Task, Variant
from schemas.rows.placement import CorrectionRow


class ListedTask(Task, frozen=True, kw_only=True):
    """Task with its owner and visibility."""

    access: Access = PUBLIC


class ModelsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the models of one task, or of all tasks."""

    task: str | None = None


class ListedModel(Architecture, frozen=True, kw_only=True):
    """Version of a model with its owner and visibility."""

    access: Access = PUBLIC


class VariantsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the variants of one task, or of all tasks."""

    task: str | None = None


class ListedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """Variant with its profile and the observations of it in service."""

    variant: Variant
    profile: Profile | None
    """Null: the variant has not been profiled."""
    measure: str
    """Measure that `accuracy` means for the variant's task."""
    failed: dict[str, str] = {}
    """Reason why the variant failed to load, by worker; only administrators see it."""
    corrections: tuple[CorrectionRow, ...] = ()
    """Cases in which batches take longer than the profile says; only administrators see them."""
    dominated_by: str = ""
    """Variant that is better in every respect, among the variants that the caller may use; empty: there is none."""


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the profile of a variant."""

    variant: str


class MeasuredVariant(msgspec.Struct, frozen=True, kw_only=True):
    """Profile of a variant."""

    profile: Profile
    measure: str
    """Measure that `accuracy` means for the variant's task."""
    tuning: str = ""
    """Tuning of quantisation: the calibration, and the layers that stay in FP32; empty: there was no choice."""
    corrections: tuple[CorrectionRow, ...] = ()
    """Cases in which batches take longer than the profile says; only administrators see them."""


class ComparisonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a comparison of a task's variants."""

    task: str


class ComparedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy, latency and cost of one variant in the comparison of its task."""

    variant: str
    architecture: str
    label: str
    """Runtime and precision, which are the middle part of the variant's name."""
    accuracy: float
    """Quality by the task's measure, 0..1."""
    latency_s: float
    """Seconds of a batch of one input."""
    cost: float
    """USD per 1000 inputs at list prices, at the variant's cheapest batch size."""
    dominated_by: str = ""
    """Variant that is better in every respect, among the variants that the caller may use; empty: there is none."""


TASKS: Final = Endpoint(
    name="tasks.list",
    method="GET",
    path="/v1/tasks",
    role=Role.QUERY,
    request=Empty,
    result=list[ListedTask],
    summary="List the tasks that clients can query.",
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
    summary="List the variants of the models with their measurements.",
)
PROFILE: Final = Endpoint(
    name="variants.profile",
    method="GET",
    path="/v1/variants/{variant}/profile",
    role=Role.QUERY,
    request=ProfileRequest,
    result=MeasuredVariant,
    summary="Show the profile of a variant: load time, latency per batch size, memory, accuracy.",
)
COMPARISON: Final = Endpoint(
    name="tasks.compare",
    method="GET",
    path="/v1/tasks/{task}/comparison",
    role=Role.QUERY,
    request=ComparisonRequest,
    result=list[ComparedPoint],
    summary="Compare the variants of a task: accuracy, latency, cost, dominated variants.",
)
CATALOG: Final = (TASKS, MODELS, VARIANTS, PROFILE, COMPARISON)
