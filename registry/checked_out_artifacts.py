"""Holds artifacts in local files while a step, or a whole registration, needs them.

If the artifacts are in a bucket, its local cache may evict any file that nobody holds.
"""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from registry.artifacts import ArtifactStore
from runtimes.composite import hold_artifacts
from schemas.rows.processing import Processing


class CheckedOutArtifacts:
    """Artifacts that stay in local files while this context is open; fetched and verified in threads.

    Raises:
        OperatorError: from each method, if an artifact is missing, is damaged, or cannot be fetched.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._files = ExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._files.close()

    async def file(self, sha256: str) -> Path:
        """Hold one artifact and return its file."""
        return await asyncio.to_thread(self._hold, sha256)

    async def variant(self, runtime: str, sha256: str) -> Path:
        """Hold the artifact of a variant, and of a composite also those of its stages, beside it; return its file."""
        return await asyncio.to_thread(hold_artifacts, runtime, sha256, self._hold)

    async def processing(self, registered: Processing | None) -> Processing | None:
        """Hold the files of the processing, and return it with their paths."""
        if registered is None:
            return None
        return await asyncio.to_thread(registered.with_files, lambda sha256: str(self._hold(sha256)))

    def _hold(self, sha256: str) -> Path:
        return self._files.enter_context(self._artifacts.held(sha256)).absolute()
