"""Versions of a model: which version a registration is, and which version serves.

Rules:
* Content decides identity: a registration with the same file, processing and options is the same version. Any other
  content under a model's name is its next version, an architecture of its own, `<model>-v<number>`. A file counts by
  its content, so a moved file is the same. A folder counts by the names and contents of its files.
* The earlier version serves until all variants of the new one are written. Then the new version takes over, unless its
  registration was held or another version is being tried; the earlier one stands in until an instance of the new one
  serves.
* A version takes over by itself only once. A version that a person has tried or rolled back serves again only by a
  person's decision.

Acts on versions return the new row and the event to keep, and are pure:

    canary, shadow -> (a larger share ...) -> finished
                                           -> rolled_back, which also takes back what was finished
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from registry.artifacts import sha256_of
from registry.request import Registration
from schemas.errors import OperatorError
from schemas.rows.catalog import Architecture, Processing
from schemas.versions import Rollout, VersionEvent, VersionEventKind
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool
from store.registry import get_architecture, get_task
from store.rollouts import add_event, begin_rollout, change_rollout, get_rollout, list_events, list_versions

RolloutChange: TypeAlias = tuple[Rollout, VersionEvent]
_SHOWN: Final = 12


def made_with(request: Registration) -> dict[str, str]:
    """Return the options that influence the measured quality of a model, by name; blocks, since it reads files.

    Raises:
        OperatorError: a file cannot be read.
    """
    given: dict[str, object] = {
        "validation": request.validation and fingerprint(request.validation),
        "calibration": request.calibration and fingerprint(request.calibration),
        "accuracy": request.accuracy,
        "measure": request.measure,
        "output": request.output,
        "batch-axis": ", ".join(request.batch_axes) or None,
        "max-batch": request.max_batch,
        "classes": ", ".join(request.classes) or None,
        "accuracy-samples": request.accuracy_samples,
        "max-accuracy-loss": request.max_accuracy_loss,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def by_content(processing: Processing | None) -> Processing | None:
    """Return the processing with its files named by SHA-256 instead of by path; blocks. Raises `OperatorError`."""
    return processing and processing.with_files(lambda file: sha256_of(Path(file)))


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents in a folder; blocks. Raises `OperatorError`."""
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def canary(rollout: Rollout, version: int, share: float, by: str) -> RolloutChange:
    """Let a version answer a share, 0..1, of the queries of its model.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    return replace(rollout, candidate=version, share=share), _event(
        rollout, version, VersionEventKind.CANARY, by, f"answers {100 * share:.4g} % of the queries"
    )


def shadow(rollout: Rollout, version: int, share: float, by: str) -> RolloutChange:
    """Send a version copies of a share, 0..1, of the queries of its model.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    return replace(rollout, candidate=version, shadow=share), _event(
        rollout, version, VersionEventKind.SHADOW, by, f"gets copies of {100 * share:.4g} % of the queries"
    )


def finished(rollout: Rollout, version: int, kind: VersionEventKind, by: str) -> RolloutChange:
    """Let a version serve; the version before stands in until an instance of it does.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    now = replace(rollout, serving=version, previous=rollout.serving, candidate=None, share=0.0, shadow=0.0)
    return now, _event(rollout, version, kind, by, f"instead of version {rollout.serving}")


def rolled_back(rollout: Rollout, by: str) -> RolloutChange:
    """Withdraw the version that is being tried; if there is none, let the version before serve again.

    Raises:
        OperatorError: there is no version to go back to.
    """
    kind = VersionEventKind.ROLLED_BACK
    if rollout.candidate is not None:
        now = replace(rollout, candidate=None, share=0.0, shadow=0.0)
        return now, _event(rollout, rollout.candidate, kind, by, f"version {rollout.serving} answers all queries")
    if rollout.previous is None:
        raise OperatorError(
            f"version {rollout.serving} of {rollout.model} serves, no other version is under trial, and none served "
            "before: there is nothing to roll back"
        )
    now = replace(rollout, serving=rollout.previous, previous=None)
    return now, _event(rollout, rollout.serving, kind, by, f"version {rollout.previous} serves again")


def _check_free(rollout: Rollout, version: int) -> None:
    if version == rollout.serving:
        raise OperatorError(f"version {version} of {rollout.model} is serving already")
    if rollout.candidate not in (None, version):
        raise OperatorError(
            f"version {rollout.candidate} of {rollout.model} is under trial: first finish it, or withdraw it by "
            f"`infaas rollback {rollout.model}`"
        )


def _event(rollout: Rollout, version: int, kind: VersionEventKind, by: str, detail: str) -> VersionEvent:
    return VersionEvent(model=rollout.model, version=version, kind=kind, detail=detail, by=by)


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
        StoreConflict: a version is being unregistered.
    """
    events = [event for event in await list_events(pool, version.model) if event.version == version.number]
    rollout = await get_rollout(pool, version.model)  # after its events, so that a version that serves now is seen
    if rollout is None or rollout.serving >= version.number:
        return ""
    if any(event.kind is not VersionEventKind.REGISTERED for event in events):
        return f"version {version.number} was tried or served before: only `infaas rollout` makes it serve again"
    if rollout.candidate is not None:
        return f"version {rollout.candidate} is under trial, so version {version.number} waits for `infaas rollout`"
    try:
        await change_rollout(pool, rollout, *finished(rollout, version.number, VersionEventKind.SERVING, by))
    except StoreConflict:
        if await get_rollout(pool, version.model) == rollout:
            raise
        return await take_over(pool, version, by)  # another caller changed the versions meanwhile
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
