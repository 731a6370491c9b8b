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
from schemas.principal import Principal
from security.access import common_access, is_within, narrowed, narrowed_composites
from security.sight import Sight
from store.access import begin_access, get_access, list_access, lock_access, set_access
from store.pool import DatabaseSession
from store.registry import list_architectures, list_variants


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


async def read_sight(session: DatabaseSession, principal: Principal) -> Sight:
    """What someone sees of what is registered."""
    return Sight(principal, await list_access(session), await list_architectures(session))


async def change_access(
    session: DatabaseSession, artifacts: ArtifactStore, name: str, access: Access, sight: Sight
) -> dict[str, Access]:
    """Change whose a task or a model is, under `lock_access`; returns that, and what was narrowed with it.

    What is made of it is narrowed whosever it is, and among what is returned where who asks may know all of it.

    Raises:
        InvalidRequest: it is more than what it is made of allows.
    """
    composites = await _composites(session, artifacts)
    for parts in (one.parts for one in composites if one.model == name):
        widest = await access_of_parts(session, parts)
        if not is_within(access, widest):
            whose = f"what is {widest}" if sight.is_whole else "what not all of these may use"
            raise InvalidRequest(f"{name} is made of {whose}: it cannot be {access}")
    await set_access(session, name, access)
    found = await _narrowed(session, composites)
    return {name: access} | {model: found[model] for model in found if sight.knows_of(model)}


async def _narrowed(session: DatabaseSession, composites: Sequence[_Composite]) -> dict[str, Access]:
    """Narrow composites that were open to more than what they are made of; returns what they became, by model."""
    known = await list_access(session)
    found = narrowed_composites(known, [(one.model, one.parts) for one in composites])
    for model, access in found.items():
        await set_access(session, model, access)
    return found


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
