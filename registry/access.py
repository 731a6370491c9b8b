"""Whose tasks and models are: said when they are registered, changed later, and kept within what they are made of.

Rules:
* It is said in the transaction that writes the first rows, so nothing is ever seen by who may not use it.
* A new model is what its registration says, and a new task what its first model is. What is known stays as it is.
* What is made of others is used by at most those who may use all of them: it is narrowed with them, never widened,
  whether a part was changed or got a version that narrows it.
* One change after the other: a composite that is registered meanwhile sees the change, or is seen by it.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from registry.artifacts import ArtifactStore
from registry.registration import Registration
from registry.removal.unused_files import stages_of
from schemas.access import PUBLIC, Access
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import is_variant_name
from security.access import check_access, common_access, is_within, narrowed, narrowed_composites
from store.access import begin_access, get_access, list_access, lock_access, set_access
from store.pool import DatabaseSession, Pool
from store.registry import get_architecture, get_task, list_architectures, list_variants


class AccessOf(msgspec.Struct, frozen=True):
    """Whose a task or a model is, and who may use it."""

    name: str
    access: Access


class _Composite(msgspec.Struct, frozen=True):
    model: str
    parts: frozenset[str]
    """Tasks and models of its stages."""


async def access_of_parts(session: DatabaseSession, parts: Iterable[str]) -> Access:
    """The widest access of what is made of these tasks and models."""
    return common_access((await list_access(session, names=set(parts))).values())


async def check_new_access(session: DatabaseSession, request: Registration, model: str, *, known: bool) -> None:
    """Raise `OperatorError` if a registration says something else of a model than is `known` of it."""
    if request.access is None or not known:
        return
    now = await get_access(session, model)
    if now != request.access:
        raise OperatorError(f"{model} is {now}: leave that out here, and change it by `infaas access set {model}`")


async def write_access(
    session: DatabaseSession, artifacts: ArtifactStore, request: Registration, model: str, task: str | None
) -> None:
    """Write whose a model is, and its `task` if that is new, in the transaction that makes them seen."""
    known = widest = PUBLIC
    if request.made_of:
        await lock_access(session)
        known, widest = await get_access(session, model), await access_of_parts(session, request.made_of)
    access = narrowed(request.access or PUBLIC, widest)
    for name in (model, task):
        if name is not None:
            await begin_access(session, name, access)
    if not is_within(known, widest):  # what is made of the model may be open to more, too
        await set_access(session, model, narrowed(await get_access(session, model), widest))
        await _narrowed(session, await _composites(session, artifacts))


async def find_access(session: DatabaseSession, name: str) -> AccessOf:
    """Whose a task or a model with all its versions is.

    Raises:
        OperatorError: there is none of this name.
    """
    if is_variant_name(name) or "@" in name:
        raise OperatorError(f"{name} is a part of a model, and used by whoever may use that: name the model")
    task = await get_task(session, name)
    architecture = None if task is not None else await get_architecture(session, name)
    versions = [] if task is not None else [a for a in await list_architectures(session) if a.model == name]
    if task is None and architecture is None and not versions:
        raise OperatorError(f"there is no task or model {name!r}: `infaas tasks` and `infaas models` list them")
    if architecture is not None and architecture.model != name:
        raise OperatorError(f"{name} is version {architecture.version} of {architecture.model}: name the model")
    return AccessOf(name, await get_access(session, name))


async def change_access(pool: Pool, artifacts: ArtifactStore, name: str, access: Access) -> list[AccessOf]:
    """Change whose a task or a model is; returns that, and what is made of it and was narrowed with it.

    Raises:
        InvalidRequest: it makes no sense, or is more than what it is made of allows.
        OperatorError: there is none of this name.
    """
    check_access(access)
    async with pool.transaction() as session:
        await lock_access(session)
        await find_access(session, name)
        composites = await _composites(session, artifacts)
        for parts in (one.parts for one in composites if one.model == name):
            widest = await access_of_parts(session, parts)
            if not is_within(access, widest):
                raise InvalidRequest(f"{name} is made of what is {widest}: it cannot be {access}")
        await set_access(session, name, access)
        return [AccessOf(name, access), *await _narrowed(session, composites)]


async def _narrowed(session: DatabaseSession, composites: Sequence[_Composite]) -> list[AccessOf]:
    """Composites that were open to more than what they are made of."""
    known = await list_access(session)
    found = narrowed_composites(known, [(one.model, one.parts) for one in composites])
    for model, access in found.items():
        await set_access(session, model, access)
    return [AccessOf(model, access) for model, access in found.items()]


async def _composites(session: DatabaseSession, artifacts: ArtifactStore) -> list[_Composite]:
    architectures = {row.name: row for row in await list_architectures(session)}
    variants = {row.name: row for row in await list_variants(session)}
    found = list[_Composite]()
    for variant in variants.values():
        stages = await asyncio.to_thread(stages_of, variant, artifacts)
        used = [architectures[variants[s.variant].architecture] for s in stages if s.variant in variants]
        if used:
            parts = frozenset(name for row in used for name in (row.task, row.model))
            found.append(_Composite(architectures[variant.architecture].model, parts))
    return found
