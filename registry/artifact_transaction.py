"""Artifacts that one registration added, so that a failed registration removes them and no others.

Artifacts are named by their content. A registration may need an artifact that another one stored before, and another
registration may use one that this one added. Hence only artifacts that no row needs are removed.
"""

import logging
from pathlib import Path

from registry.artifacts import ArtifactStore
from registry.removal.unused_files import discard_unused
from schemas.errors import InfaasError
from store.pool import Pool
from store.removal import lock_catalog

log = logging.getLogger(__name__)


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
                await discard_unused(session, new, self._artifacts)
        except InfaasError as error:
            log.warning("%d files of the failed registration were not deleted: %s", len(new), error)
