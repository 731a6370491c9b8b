"""The catalog as the caller sees it: tasks, models, variants and their profiles.

All data of a response comes from one snapshot. An object that the caller does not see is looked up with the same steps
as one that does not exist, so that timing reveals nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec.structs import asdict

from admin.binding import bind
from admin.control import RequestContext
from registry.access import read_sight
from registry.comparison import compare
from schemas.endpoints.catalog import (
    COMPARISON,
    MODELS,
    PROFILE,
    TASKS,
    VARIANTS,
    ComparedPoint,
    ComparisonRequest,
    ListedModel,
    ListedTask,
    ListedVariant,
    MeasuredVariant,
    ModelsRequest,
    ProfileRequest,
    VariantsRequest,
)
from schemas.endpoints.endpoint import Empty
from schemas.errors import NotFound
from schemas.rows.catalog import ACCURACY, Profile, Variant, VariantState
from schemas.rows.placement import CorrectionRow, InstanceRow
from schemas.status import InstanceState
from security.catalog_view import CatalogView
from store.corrections import list_corrections
from store.placement import list_instances
from store.pool import DatabaseSession
from store.registry import (
    get_profile,
    get_task,
    get_variant,
    list_architectures,
    list_profiles,
    list_tasks,
    list_variants,
)

Row = TypeVar("Row", InstanceRow, CorrectionRow)


async def tasks(control: RequestContext, _request: Empty) -> list[ListedTask]:
    """List tasks."""
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
        rows = sight.filter_visible(await list_tasks(session))
    return [ListedTask(**asdict(row), access=sight.access_of(row.name)) for row in rows]


async def models(control: RequestContext, request: ModelsRequest) -> list[ListedModel]:
    """List the versions of models."""
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
        if not await _sees_task(session, sight, request.task):
            return []
        rows = sight.filter_visible(await list_architectures(session, task=request.task))
    return [ListedModel(**asdict(row), access=sight.access_of(row.model)) for row in rows]


async def variants(control: RequestContext, request: VariantsRequest) -> list[ListedVariant]:
    """List variants with their profiles, load failures and observed corrections."""
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
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


async def profile(control: RequestContext, request: ProfileRequest) -> MeasuredVariant:
    """Return the profile of a variant.

    Raises:
        NotFound: the variant does not exist, or has no profile.
    """
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
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


async def comparison(control: RequestContext, request: ComparisonRequest) -> list[ComparedPoint]:
    """Compare the ready variants of a task.

    Raises:
        NotFound: the task does not exist, or has no ready variant.
    """
    rows, profiles = list[Variant](), dict[str, Profile]()
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
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


BINDINGS: Final = (
    bind(TASKS, tasks),
    bind(MODELS, models),
    bind(VARIANTS, variants),
    bind(PROFILE, profile),
    bind(COMPARISON, comparison),
)
