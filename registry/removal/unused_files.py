"""Artifacts that no remaining row needs: found for a removal, and deleted after a failed registration.

A composite's document names the files of its stages. They stay as long as the composite does, also when the variants
that they were made for are removed. Artifacts are named by their content: a registration may need an artifact that
another one stored before, and another registration may use one that this one added.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from registry.artifacts import ArtifactStore
from runtimes.composite import CASCADE, CHAIN, Stage, read_document
from schemas.errors import InfaasError, InvalidRequest, ModelFailed, OperatorError
from schemas.registrations import processing_files
from schemas.rows.catalog import Architecture, Variant
from schemas.rows.removals import RegisteredNames
from store.pool import DatabaseSession, Pool
from store.registry import list_architectures, list_variants
from store.removals import lock_catalog

log = logging.getLogger(__name__)


async def unused_files(session: DatabaseSession, names: RegisteredNames, artifacts: ArtifactStore) -> list[str]:
    """Return the SHA-256 of the files that only rows of these names need."""
    variants, architectures = await list_variants(session), await list_architectures(session)

    def files(*, gone: bool) -> set[str]:
        return files_of(
            (row for row in variants if (row.name in names.variants) == gone),
            (row for row in architectures if (row.name in names.architectures) == gone),
            artifacts,
        )

    return sorted(await asyncio.to_thread(lambda: files(gone=True) - files(gone=False)))


def files_of(variants: Iterable[Variant], architectures: Iterable[Architecture], artifacts: ArtifactStore) -> set[str]:
    """Return the SHA-256 of all files of the rows."""
    found = set[str]()
    for variant in variants:
        found.add(variant.artifact)
        found |= {stage.artifact for stage in stages_of(variant, artifacts)}
    for architecture in architectures:
        found |= {architecture.source, architecture.sample_rows}
        found.update(processing_files(architecture.processing))
    return found - {""}


def stages_of(variant: Variant | Stage, artifacts: ArtifactStore) -> tuple[Stage, ...]:
    """Return all stages of a composite, nested ones included; empty for other variants, or if its file is missing."""
    if variant.runtime not in (CASCADE, CHAIN) or not artifacts.has(variant.artifact):
        return ()
    with artifacts.held(variant.artifact) as file:
        stages = read_document(file).stages
    return (*stages, *(inner for stage in stages for inner in stages_of(stage, artifacts)))


class ArtifactTransaction:
    """Artifacts that one registration added."""

    def __init__(self, artifacts: ArtifactStore, pool: Pool) -> None:
        self._artifacts = artifacts
        self._pool = pool
        self._new = set[str]()

    def put(self, file: Path) -> str:
        """Store a copy of a file and return its SHA-256; blocks. Raises `OperatorError` if it cannot be stored."""
        kept = self._artifacts.keep(file)
        if kept.is_new:
            self._new.add(kept.sha256)
        return kept.sha256

    @asynccontextmanager
    async def removed_on_failure(self, name: str) -> AsyncGenerator[None]:
        """On an error, remove the added artifacts that no row needs.

        Raises:
            InvalidRequest: instead of `ModelFailed`: the model, with this `name`, does not run.
        """
        try:
            yield
        except (ModelFailed, InvalidRequest, OperatorError) as error:
            await self.rollback()
            if isinstance(error, ModelFailed):
                raise InvalidRequest(f"{name} does not run: {error}") from error
            raise

    async def rollback(self) -> None:
        """Remove the added artifacts that no row needs.

        If that fails they stay, and the failure is only logged, so that it does not hide the error that led here.
        """
        new, self._new = self._new, set[str]()
        if not new:
            return
        try:
            async with self._pool.transaction() as session:
                await lock_catalog(session)  # no row that needs one is written between check and deletion
                rows = await list_variants(session), await list_architectures(session)
                for sha256 in new - await asyncio.to_thread(files_of, *rows, self._artifacts):
                    await asyncio.to_thread(self._artifacts.discard, sha256)
        except InfaasError as error:
            log.warning("%d files of the failed registration were not deleted: %s", len(new), error)
