"""The catalog as the caller sees it: tasks, models, variants and their profiles.

All data of a response comes from one snapshot. An object that the caller does not see is looked up with the same steps
as one that does not exist, so that timing reveals nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec.structs import asdict

from admin.api import Empty, RequestContext, endpoint, param
from process.security.catalog_view import CatalogView
from registry.access import read_sight
from registry.comparison import ComparedPoint, compare
from schemas.access import PUBLIC, Access, Role
from schemas.errors import NotFound
from schemas.rows.catalog import ACCURACY, Architecture, Profile, Task, Variant, VariantState
from schemas.rows.cluster import CorrectionRow, InstanceRow
from schemas.status import InstanceState
from store.placement import list_instances
from store.pool import DatabaseSession
from store.registry import (
    get_profile,
    get_task,
    get_variant,
    list_architectures,
    list_corrections,
    list_profiles,
    list_tasks,
    list_variants,
)


class ListedTask(Task, frozen=True, kw_only=True):
    """Task with its owner and visibility."""

    access: Access = PUBLIC


class CatalogRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the models or variants of one task, or of all tasks."""

    task: Annotated[str | None, param("Only of this task.")] = None


class ListedModel(Architecture, frozen=True, kw_only=True):
    """Version of a model with its owner and visibility."""

    access: Access = PUBLIC


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

    variant: Annotated[str, param("Variant, e.g. textcnn.onnx-fp32.cpu.")]


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

    task: Annotated[str, param("Task whose variants are compared.")]


Row = TypeVar("Row", InstanceRow, CorrectionRow)


@endpoint("tasks.list", "GET", "/v1/tasks", Role.QUERY)
async def tasks(context: RequestContext, _request: Empty) -> list[ListedTask]:
    """List the tasks that clients can query."""
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        rows = sight.filter_visible(await list_tasks(session))
    return [ListedTask(**asdict(row), access=sight.access_of(row.name)) for row in rows]


@endpoint("models.list", "GET", "/v1/architectures", Role.QUERY)
async def models(context: RequestContext, request: CatalogRequest) -> list[ListedModel]:
    """List the versions of models that were registered, of all tasks or of one."""
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        if not await _sees_task(session, sight, request.task):
            return []
        rows = sight.filter_visible(await list_architectures(session, task=request.task))
    return [ListedModel(**asdict(row), access=sight.access_of(row.model)) for row in rows]


@endpoint("variants.list", "GET", "/v1/variants", Role.QUERY)
async def variants(context: RequestContext, request: CatalogRequest) -> list[ListedVariant]:
    """List the variants of the models with their measurements."""
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        if not await _sees_task(session, sight, request.task):
            return []
        rows = sight.filter_visible(await list_variants(session, task=request.task))
        profiles = await _profiles(session, request.task)
        measures = {task.name: task.measure for task in await list_tasks(session)}
        failed = _by_variant(await _failed(session, sight))
        corrections = _by_variant(await _corrections(session, sight))
    ready = [row for row in rows if row.state is VariantState.READY]
    compared = await asyncio.to_thread(compare, ready, profiles)  # takes as long as some queries if there are many
    dominated = {one.variant.name: one.dominated_by for one in compared}
    return [
        ListedVariant(
            variant=row,
            profile=profiles.get(row.name),
            measure=measures[row.task],
            failed={one.worker: one.reason for one in failed.get(row.name, ())},
            corrections=tuple(corrections.get(row.name, ())),
            dominated_by=dominated.get(row.name, ""),
        )
        for row in rows
    ]


@endpoint("variants.profile", "GET", "/v1/variants/{variant}/profile", Role.QUERY)
async def profile(context: RequestContext, request: ProfileRequest) -> MeasuredVariant:
    """Show the profile of a variant: load time, latency per batch size, memory, accuracy.

    Raises:
        NotFound: the variant does not exist, or has no profile.
    """
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        found, row = await get_profile(session, request.variant), await get_variant(session, request.variant)
        corrections = await _corrections(session, sight, request.variant)
        if found is None or row is None or not sight.sees(row):
            raise NotFound(f"there is no profile of {request.variant!r}; `infaas variants` lists the variants")
        task = await get_task(session, row.task)
    return MeasuredVariant(
        profile=found,
        measure=ACCURACY if task is None else task.measure,
        tuning=sight.shown(row).tuning,
        corrections=tuple(corrections),
    )


@endpoint("tasks.compare", "GET", "/v1/tasks/{task}/comparison", Role.QUERY)
async def comparison(context: RequestContext, request: ComparisonRequest) -> list[ComparedPoint]:
    """Compare the variants of a task: accuracy, latency, cost, dominated variants.

    Raises:
        NotFound: the task does not exist, or has no ready variant.
    """
    rows, profiles = list[Variant](), dict[str, Profile]()
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        if await _sees_task(session, sight, request.task):
            rows = sight.filter_visible(await list_variants(session, task=request.task, state=VariantState.READY))
            profiles = await _profiles(session, request.task)
    compared = await asyncio.to_thread(compare, rows, profiles)
    if not compared:
        raise NotFound(
            f"there is no task {request.task!r}, or no variant of it is ready; `infaas tasks` lists the tasks"
        )
    return [one.point() for one in compared]


async def _sees_task(session: DatabaseSession, sight: CatalogView, name: str | None) -> bool:
    """Return true if the caller sees the task; None stands for all tasks."""
    if name is None:
        return True
    task = await get_task(session, name)
    return task is not None and sight.sees(task)


async def _profiles(session: DatabaseSession, task: str | None) -> Mapping[str, Profile]:
    return {row.variant: row for row in await list_profiles(session, task=task)}


def _by_variant(rows: Iterable[Row]) -> Mapping[str, Sequence[Row]]:
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[row.variant].append(row)
    return found


async def _failed(session: DatabaseSession, sight: CatalogView) -> Sequence[InstanceRow]:
    """Return instances that failed to load, if the caller may see workers."""
    if not sight.is_whole:
        return ()
    return [row for row in await list_instances(session) if row.state is InstanceState.FAILED]


async def _corrections(
    session: DatabaseSession, sight: CatalogView, variant: str | None = None
) -> Sequence[CorrectionRow]:
    """Return the corrections that workers observed for profiles, if the caller may see workers."""
    return await list_corrections(session, variant=variant) if sight.is_whole else ()


CATALOG: Final = (tasks, models, variants, profile, comparison)
