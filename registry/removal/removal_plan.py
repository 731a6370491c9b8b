"""What goes with a name, and why it perhaps should not: it is used."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import msgspec

from registry.artifacts import ArtifactStore
from registry.removal.unused_files import stages_of, unused_files
from schemas.errors import OperatorError
from schemas.names import is_variant_name
from schemas.rows.catalog import VariantState
from schemas.topics import offline_topic, results_topic, task_topic, variant_topics
from store.pool import DatabaseSession, Pool
from store.registry import get_task, get_variant, list_architectures, list_variants
from store.removal import RegisteredNames, count_queries, list_serving, list_uses
from store.samples import present_s

RECENT_S: Final = 300.0
"""Seconds for which a query counts as a sign that something is used."""
_SHOWN: Final = 3


class RemovalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a name."""

    name: str
    names: RegisteredNames
    topics: tuple[str, ...]
    """Topics of queries and results, that of results last."""
    files: tuple[str, ...]
    """SHA-256 of artifacts that nothing else needs."""
    uses: tuple[str, ...]
    """Why it counts as used, in words; none: it is not."""
    begun: bool
    """Whether its removal was begun already."""


async def find_registered(session: DatabaseSession, name: str) -> tuple[RegisteredNames, bool] | None:
    """What goes with a variant, a model, one of its versions (`MODEL@2`) or a task, and whether that was begun."""
    if is_variant_name(name):
        variant = await get_variant(session, name)
        return variant and (RegisteredNames(None, (), (name,)), variant.state is VariantState.REMOVING)
    every = await list_architectures(session)
    model, at, version = name.partition("@")
    versions = [a for a in every if a.model == model and (not at or str(a.version) == version)]
    versions = versions or [a for a in every if a.name == name]
    if versions:
        names = tuple(a.name for a in versions)
        variants = tuple(v.name for v in await list_variants(session, task=versions[0].task) if v.architecture in names)
        return RegisteredNames(None, names, variants), all(a.removing for a in versions)
    task = await get_task(session, name)
    if task is None:
        return None
    architectures = tuple(a.name for a in await list_architectures(session, task=name))
    return RegisteredNames(name, architectures, tuple(v.name for v in await list_variants(session, task=name))), (
        task.removing
    )


async def plan_removal(pool: Pool, artifacts: ArtifactStore, name: str) -> RemovalPlan:
    """Find out what would go with a name.

    Raises:
        OperatorError: nothing has this name, or a composite's file cannot be read.
    """
    found = await find_registered(pool, name)
    if found is None:
        raise OperatorError(
            f"there is no task, architecture or variant {name!r}: `infaas tasks`, `models` and `variants` list them"
        )
    names, begun = found
    if not begun:
        await check_serves_not(pool, names)
    return RemovalPlan(
        name=name,
        names=names,
        topics=topics_of(names),
        files=tuple(await unused_files(pool, names, artifacts)),
        uses=tuple(await _uses(pool, names, artifacts)),
        begun=begun,
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


async def _uses(pool: Pool, names: RegisteredNames, artifacts: ArtifactStore) -> list[str]:
    found = [f"{why}: {_some(what)}" for why, what in (await list_uses(pool, names)).items() if what]
    since = datetime.fromtimestamp(await present_s(pool) - RECENT_S, UTC)
    if queries := await count_queries(pool, names, since):
        found.append(f"it was asked {queries} time(s) within {RECENT_S / 60:g} minutes")
    others = [v for v in await list_variants(pool) if v.name not in names.variants]
    composites = [
        v.name
        for v in others
        if any(stage.variant in names.variants for stage in await asyncio.to_thread(stages_of, v, artifacts))
    ]
    if composites:
        found.append(f"it is a stage of {_some(composites)}")
    return found


def _some(what: list[str]) -> str:
    more = len(what) - _SHOWN
    return ", ".join(what[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
