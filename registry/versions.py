"""Decides which version of a model a registration is, and when it begins to serve.

Rules:
* Content decides identity: a registration with the same file, processing and options is the same version. Any other
  content under a model's name is its next version, an architecture of its own, `<model>-v<number>`.
* The earlier version serves until all variants of the new one are written. Then the new version takes over, unless its
  registration was held or another version is being tried; the earlier one stands in until an instance of the new one
  serves.
* A version takes over by itself only once. A version that a person has tried or rolled back serves again only by a
  person's decision.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from registry.registration import Registration
from registry.rollouts import finished
from schemas.errors import OperatorError
from schemas.rows.catalog import Architecture
from schemas.rows.processing import Processing
from schemas.rows.rollout import VersionEvent, VersionEventKind
from store.pool import DatabaseSession, Pool
from store.registry import get_architecture, get_task
from store.rollouts import add_event, begin_rollout, change_rollout, get_rollout, list_events, list_versions

_SHOWN: Final = 12


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model, registered or about to be."""

    model: str
    number: int
    architecture: str
    """Name of its architecture, and the prefix of the names of its variants."""
    first: int = 1
    """First version of the model: the one that served before there were others."""
    changes: str = ""
    """Differences from the version before, in words; empty for the first version."""


async def find_version(
    pool: Pool, request: Registration, sha256: str, made_with: Mapping[str, str], processing: Processing | None
) -> ModelVersion:
    """Return the version that a registration is of; files of `processing` are named by their SHA-256.

    Raises:
        OperatorError: the model belongs to another task or is being unregistered, or the name is that of a version.
    """
    name = request.architecture
    known = await list_versions(pool, name)
    if not known:
        known = [row for row in [await get_architecture(pool, name)] if row is not None]
    if known and all(row.removing for row in known):
        raise OperatorError(f"{name} is being unregistered: wait until that is done, and register again")
    for row in reversed(known):
        if row.task != request.task:
            raise OperatorError(f"architecture {row.name} belongs to task {row.task}; choose another --name")
        if _is_same(row, sha256, processing, {} if request.again else made_with):
            return ModelVersion(model=row.model, number=row.version, architecture=row.name, first=known[0].version)
    if not known:
        return ModelVersion(model=name, number=1, architecture=name)
    if known[0].model != name:
        raise OperatorError(
            f"{name} is version {known[0].version} of {known[0].model}, with other content: register the next version "
            f"as --name {known[0].model}"
        )
    number = known[-1].version + 1
    while await _is_taken(pool, f"{name}-v{number}"):
        number += 1
    changes = "; ".join(_changes(known[-1], sha256, processing, made_with))
    return ModelVersion(
        model=name, number=number, architecture=f"{name}-v{number}", first=known[0].version, changes=changes
    )


async def note_registered(session: DatabaseSession, version: ModelVersion, by: str) -> None:
    """Note a new version in the history of its model."""
    await add_event(
        session,
        VersionEvent(
            model=version.model, version=version.number, kind=VersionEventKind.REGISTERED, detail=version.changes, by=by
        ),
    )


async def keep_serving(session: DatabaseSession, version: ModelVersion) -> None:
    """Let the version that serves go on serving when this version is written."""
    if version.number != version.first:
        await begin_rollout(session, version.model, version.first)


async def take_over(pool: Pool, version: ModelVersion, by: str) -> str:
    """Let a complete version serve, unless a rule forbids it; return a message for the user, or an empty text.

    Raises:
        StoreConflict: the versions of the model were changed meanwhile.
    """
    rollout = await get_rollout(pool, version.model)
    if rollout is None or rollout.serving >= version.number:
        return ""
    events = [event for event in await list_events(pool, version.model) if event.version == version.number]
    if any(event.kind is not VersionEventKind.REGISTERED for event in events):
        return f"version {version.number} was tried or served before: only `infaas rollout` makes it serve again"
    if rollout.candidate is not None:
        return f"version {rollout.candidate} is under trial, so version {version.number} waits for `infaas rollout`"
    await change_rollout(pool, rollout, *finished(rollout, version.number, VersionEventKind.SERVING, by))
    return (
        f"version {version.number} of {version.model} serves from now on; `infaas rollback {version.model}` undoes it"
    )


def _is_same(row: Architecture, sha256: str, processing: Processing | None, made_with: Mapping[str, str]) -> bool:
    """Return true if a version has this file, processing and options; absent options match any."""
    if row.source != sha256 or _declared(row.processing) != _declared(processing):
        return False
    return not made_with or not row.made_with or row.made_with == made_with


def _declared(processing: Processing | None) -> Processing | None:
    return processing and processing.declared


def _changes(
    before: Architecture, sha256: str, processing: Processing | None, made_with: Mapping[str, str]
) -> Sequence[str]:
    """Return the differences from the version before, in words."""
    found = list[str]()
    if before.source != sha256:
        found.append(f"file {before.source[:_SHOWN]} -> {sha256[:_SHOWN]}")
    if _declared(before.processing) != _declared(processing):
        found.append("processing")
    for name in sorted(before.made_with.keys() | made_with.keys()):
        earlier, now = before.made_with.get(name), made_with.get(name)
        if earlier != now:
            found.append(f"{name} {(earlier or 'none')[:_SHOWN]} -> {(now or 'none')[:_SHOWN]}")
    return found


async def _is_taken(pool: Pool, name: str) -> bool:
    return await get_architecture(pool, name) is not None or await get_task(pool, name) is not None
