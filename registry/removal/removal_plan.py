"""Plans a removal: finds the rows that belong to a name, and the uses that prevent it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from process.security.catalog_view import CatalogView
from registry.access import read_sight
from registry.artifacts import ArtifactStore
from registry.removal.unused_files import stages_of, unused_files
from schemas.access import ANYONE, Principal
from schemas.errors import NotFound, OperatorError
from schemas.names import is_variant_name
from schemas.rows.catalog import Task, Variant, VariantState
from schemas.rows.removals import RegisteredNames, RemovalPlan
from schemas.topics import offline_topic, results_topic, task_topic, variant_topics
from store.pool import DatabaseSession, Pool
from store.registry import get_task, get_variant, list_architectures, list_tasks, list_variants
from store.removals import COMPARED, count_queries, list_serving, list_uses
from store.samples import present_s

RECENT_S: Final = 300.0
"""Seconds for which a query counts as a use."""
_SHOWN: Final = 3


async def find_registered(
    session: DatabaseSession, name: str, sight: CatalogView
) -> tuple[RegisteredNames, bool] | None:
    """Return the rows' names that a removal of `name` includes, and whether their removal has begun.

    `name` is that of a variant, a model, one of its versions (`MODEL@2`) or a task. None: the principal sees nothing of
    this name. If they see a task, all of it is included.
    """
    if is_variant_name(name):
        variant = await get_variant(session, name)
        if variant is None or not sight.sees(variant):
            return None
        return RegisteredNames(None, (), (name,)), variant.state is VariantState.REMOVING
    every = [row for row in await list_architectures(session) if sight.sees(row)]
    model, at, version = name.partition("@")
    versions = [a for a in every if a.model == model and (not at or str(a.version) == version)]
    versions = versions or [a for a in every if a.name == name]
    if versions:
        names = tuple(a.name for a in versions)
        variants = tuple(v.name for v in await list_variants(session, task=versions[0].task) if v.architecture in names)
        return RegisteredNames(None, names, variants), all(a.removing for a in versions)
    task = await get_task(session, name)
    if task is None or not sight.sees(task):
        return None
    architectures = tuple(a.name for a in await list_architectures(session, task=name))
    return RegisteredNames(name, architectures, tuple(v.name for v in await list_variants(session, task=name))), (
        task.removing
    )


async def plan_removal(pool: Pool, artifacts: ArtifactStore, name: str, principal: Principal = ANYONE) -> RemovalPlan:
    """Return the plan of a removal by `principal`.

    Raises:
        NotFound: nothing has this name.
        Forbidden: a part belongs to another tenant.
        OperatorError: it is a version that serves, or the file of a composite cannot be read.
    """
    sight = await read_sight(pool, principal)
    found = await find_registered(pool, name, sight)
    if found is None:
        raise NotFound(
            f"there is no task, architecture or variant {name!r}: `infaas tasks`, `models` and `variants` list them"
        )
    names, begun = found
    await check_may_remove(pool, names, sight)
    if not begun:
        await check_serves_not(pool, names)
    return RemovalPlan(
        name=name,
        names=names,
        topics=topics_of(names),
        files=tuple(await unused_files(pool, names, artifacts)),
        uses=tuple(await _uses(pool, names, artifacts, sight)),
        begun=begun,
    )


def check_unused(plan: RemovalPlan, *, force: bool) -> None:
    """Raise `OperatorError` if the name is in use, its removal has not begun, and `force` is false."""
    if plan.uses and not plan.begun and not force:
        raise OperatorError(f"{plan.name} is used: {'; '.join(plan.uses)}; use --force to remove it anyway")


async def check_may_remove(session: DatabaseSession, names: RegisteredNames, sight: CatalogView) -> None:
    """Raise `Forbidden` unless the principal may change all of it: a task with models of other tenants stays."""
    rows = [] if names.task is None else await list_tasks(session, names=[names.task])
    sight.check_may_change(
        [
            *rows,
            *await list_architectures(session, names=names.architectures),
            *await list_variants(session, names=names.variants),
        ]
    )


async def check_serves_not(session: DatabaseSession, names: RegisteredNames) -> None:
    """Raise `OperatorError` if a version would be removed that serves its model while other versions stay."""
    if serving := await list_serving(session, names):
        raise OperatorError(f"this version of {serving[0]} is serving: `infaas rollout` another one first")


def topics_of(names: RegisteredNames) -> tuple[str, ...]:
    """Return the topics of these names; the topic of results is the last."""
    variants = [topic for variant in names.variants for topic in variant_topics(variant)]
    if names.task is None:
        return tuple(variants)
    return (*variants, task_topic(names.task), offline_topic(names.task), results_topic(names.task))


async def _uses(pool: Pool, names: RegisteredNames, artifacts: ArtifactStore, sight: CatalogView) -> list[str]:
    asked = await list_uses(pool, names)
    compared = await list_tasks(pool, names=asked.pop(COMPARED))
    found = [f"{why}: {_some(what)}" for why, what in asked.items() if what]
    if compared:
        found.append(f"{COMPARED}: {_some(_named(compared, sight))}")
    since = datetime.fromtimestamp(await present_s(pool) - RECENT_S, UTC)
    if queries := await count_queries(pool, names, since):
        found.append(f"it had {queries} queries within {RECENT_S / 60:g} minutes")
    others = [v for v in await list_variants(pool) if v.name not in names.variants]
    composites = [
        v
        for v in others
        if any(stage.variant in names.variants for stage in await asyncio.to_thread(stages_of, v, artifacts))
    ]
    if composites:
        found.append(f"it is a stage of {_some(_named(composites, sight))}")
    return found


def _named(rows: Sequence[Task] | Sequence[Variant], sight: CatalogView) -> list[str]:
    """Return the names of the rows that the principal may see, and the number of the others."""
    seen = [row.name for row in rows if sight.sees(row)]
    others = len(rows) - len(seen)
    return [*seen, *([f"{others} of other tenants"] if others else [])]


def _some(what: list[str]) -> str:
    more = len(what) - _SHOWN
    return ", ".join(what[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
