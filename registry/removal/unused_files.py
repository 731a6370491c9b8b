"""Finds artifacts that no remaining row needs.

A composite's document names the files of its stages. They stay as long as the composite does, also when the variants
that they were made for are removed.
"""

import asyncio
from collections.abc import Collection, Iterable

from registry.artifacts import ArtifactStore
from runtimes.composite import CASCADE, CHAIN, Stage, read_document
from schemas.rows.catalog import Architecture, Variant
from schemas.rows.processing import Processing
from schemas.rows.removals import RegisteredNames
from store.pool import DatabaseSession
from store.registry import list_architectures, list_variants


async def unused_files(session: DatabaseSession, names: RegisteredNames, artifacts: ArtifactStore) -> list[str]:
    """Return the SHA-256 of the files that only rows of these names need."""
    variants, architectures = await list_variants(session), await list_architectures(session)
    gone = await asyncio.to_thread(
        files_of,
        [v for v in variants if v.name in names.variants],
        [a for a in architectures if a.name in names.architectures],
        artifacts,
    )
    kept = await asyncio.to_thread(
        files_of,
        [v for v in variants if v.name not in names.variants],
        [a for a in architectures if a.name not in names.architectures],
        artifacts,
    )
    return sorted(gone - kept)


async def discard_unused(session: DatabaseSession, files: Collection[str], artifacts: ArtifactStore) -> None:
    """Delete those of `files` that no row needs; the session must hold the lock of the catalog."""
    variants, architectures = await list_variants(session), await list_architectures(session)
    for sha256 in set(files) - await asyncio.to_thread(files_of, variants, architectures, artifacts):
        await asyncio.to_thread(artifacts.discard, sha256)


def files_of(variants: Iterable[Variant], architectures: Iterable[Architecture], artifacts: ArtifactStore) -> set[str]:
    """Return the SHA-256 of all files of the rows."""
    found = set[str]()
    for variant in variants:
        found.add(variant.artifact)
        found |= {stage.artifact for stage in stages_of(variant, artifacts)}
    for architecture in architectures:
        found |= {architecture.source, architecture.sample_rows}
        if architecture.processing is not None:
            found |= _files_within(architecture.processing)
    return found - {""}


def _files_within(processing: Processing) -> set[str]:
    found = list[str]()

    def note(sha256: str) -> str:
        found.append(sha256)
        return sha256

    processing.with_files(note)
    return set(found)


def stages_of(variant: Variant, artifacts: ArtifactStore) -> tuple[Stage, ...]:
    """Return all stages of a composite, nested ones included; empty for other variants, or if its file is missing."""
    return _stages_of(variant.runtime, variant.artifact, artifacts)


def _stages_of(runtime: str, artifact: str, artifacts: ArtifactStore) -> tuple[Stage, ...]:
    if runtime not in (CASCADE, CHAIN) or not artifacts.has(artifact):
        return ()
    with artifacts.held(artifact) as file:
        stages = read_document(file).stages
    return (*stages, *(inner for stage in stages for inner in _stages_of(stage.runtime, stage.artifact, artifacts)))
