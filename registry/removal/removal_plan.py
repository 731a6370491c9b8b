"""What goes with a name, and why it perhaps should not: it is used."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from registry.access import read_sight
from registry.artifacts import ArtifactStore
from registry.removal.unused_files import stages_of, unused_files
from schemas.errors import NotFound, OperatorError
from schemas.names import is_variant_name
from schemas.principal import ANYONE, Principal
from schemas.rows.catalog import Task, Variant, VariantState
from schemas.rows.removals import RegisteredNames, RemovalPlan
from schemas.topics import offline_topic, results_topic, task_topic, variant_topics
from security.sight import Sight
from store.pool import DatabaseSession, Pool
from store.registry import get_task, get_variant, list_architectures, list_tasks, list_variants
from store.removal import COMPARED, count_queries, list_serving, list_uses
from store.samples import present_s

RECENT_S: Final = 300.0
"""Seconds for which a query counts as a sign that something is used."""
_SHOWN: Final = 3


async def find_registered(session: DatabaseSession, name: str, sight: Sight) -> tuple[RegisteredNames, bool] | None:
    """What goes with a variant, a model, one of its versions (`MODEL@2`) or a task, and whether that was begun.

    None: there is nothing of this name that who asks sees. Of a task that they see, everything goes.
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
    """Find out what would go with a name, if `principal` asks.

    Raises:
        NotFound: nothing has this name.
        Forbidden: some of what would go is another's.
        OperatorError: it is a version that serves, or a composite's file cannot be read.
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
    """Raise `OperatorError` if it is used, was not begun, and is not to go all the same."""
    if plan.uses and not plan.begun and not force:
        raise OperatorError(f"{plan.name} is used: {'; '.join(plan.uses)}. --force removes it all the same")


async def check_may_remove(session: DatabaseSession, names: RegisteredNames, sight: Sight) -> None:
    """Raise `Forbidden` if who asks may not change all of it: nobody removes a task with models of others."""
    rows = [] if names.task is None else await list_tasks(session, names=[names.task])
    sight.check_may_change(
        [
            *rows,
            *await list_architectures(session, names=names.architectures),
            *await list_variants(session, names=names.variants),
        ]
    )


async def check_serves_not(session: DatabaseSession, names: RegisteredNames) -> None:
    """Raise `OperatorError` if a version would go that answers the queries of a model of which others stay."""
    if serving := await list_serving(session, names):
        raise OperatorError(f"this version of {serving[0]} answers its queries: `infaas rollout` another one first")


def topics_of(names: RegisteredNames) -> tuple[str, ...]:
    """Topics of what has these names, that of results last."""
    variants = [topic for variant in names.variants for topic in variant_topics(variant)]
    if names.task is None:
        return tuple(variants)
    return (*variants, task_topic(names.task), offline_topic(names.task), results_topic(names.task))


async def _uses(pool: Pool, names: RegisteredNames, artifacts: ArtifactStore, sight: Sight) -> list[str]:
    asked = await list_uses(pool, names)
    compared = await list_tasks(pool, names=asked.pop(COMPARED))
    found = [f"{why}: {_some(what)}" for why, what in asked.items() if what]
    if compared:
        found.append(f"{COMPARED}: {_some(_named(compared, sight))}")
    since = datetime.fromtimestamp(await present_s(pool) - RECENT_S, UTC)
    if queries := await count_queries(pool, names, since):
        found.append(f"it was asked {queries} time(s) within {RECENT_S / 60:g} minutes")
    others = [v for v in await list_variants(pool) if v.name not in names.variants]
    composites = [
        v
        for v in others
        if any(stage.variant in names.variants for stage in await asyncio.to_thread(stages_of, v, artifacts))
    ]
    if composites:
        found.append(f"it is a stage of {_some(_named(composites, sight))}")
    return found


def _named(rows: Sequence[Task] | Sequence[Variant], sight: Sight) -> list[str]:
    """Their names, as far as who asks may know them."""
    seen = [row.name for row in rows if sight.sees(row)]
    others = len(rows) - len(seen)
    return [*seen, *([f"{others} of other tenants"] if others else [])]


def _some(what: list[str]) -> str:
    more = len(what) - _SHOWN
    return ", ".join(what[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
