"""What one registration has put among the artifacts, so that one that fails takes back that and nothing else.

Content decides what a file is called, so what a registration needs may be there already, for another one. And what it
brought may be what another one has found there meanwhile: hence only what no row needs is taken back.
"""

import logging
from pathlib import Path

from registry.artifacts import ArtifactStore
from registry.removal.unused_files import discard_unused
from schemas.errors import InfaasError
from store.pool import Pool
from store.removal import lock_catalog

log = logging.getLogger(__name__)


class BroughtArtifacts:
    """The artifacts that one registration brought."""

    def __init__(self, artifacts: ArtifactStore, pool: Pool) -> None:
        self._artifacts = artifacts
        self._pool = pool
        self._new = set[str]()

    def put(self, file: Path) -> str:
        """Keep a copy of a file; returns its SHA-256; blocks. Raises `OperatorError` where that cannot be done."""
        kept = self._artifacts.keep(file)
        if kept.is_new:
            self._new.add(kept.sha256)
        return kept.sha256

    async def take_back(self) -> None:
        """Discard what was not there before; where that cannot be done now it stays, for the error that led here."""
        new, self._new = self._new, set[str]()
        if not new:
            return
        try:
            async with self._pool.transaction() as session:
                await lock_catalog(session)  # or a row that needs one of them is written between look and deletion
                await discard_unused(session, new, self._artifacts)
        except InfaasError as error:
            log.warning("%d files of what failed stay among the artifacts: %s", len(new), error)
