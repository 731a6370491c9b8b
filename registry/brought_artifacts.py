"""What one registration has put among the artifacts, so that one that fails takes back that and nothing else.

Content decides what a file is called, so what a registration needs may be there already, for another one.
"""

from pathlib import Path

from registry.artifacts import ArtifactStore


class BroughtArtifacts:
    """The artifacts that one registration brought. All methods block."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._new: list[str] = []

    def put(self, file: Path) -> str:
        """Keep a copy of a file; returns its SHA-256. Raises `OperatorError` where it cannot be read or kept."""
        kept = self._artifacts.keep(file)
        if kept.is_new:
            self._new.append(kept.sha256)
        return kept.sha256

    def take_back(self) -> None:
        """Discard what was not there before."""
        while self._new:
            self._artifacts.discard(self._new.pop())
