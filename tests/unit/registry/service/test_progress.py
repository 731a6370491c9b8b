"""Tests of `ProgressWriter`: texts are safe for the requester and for Postgres."""

from pathlib import Path
from typing import Any

from registry.service.progress import ProgressWriter
from store.claims import ClaimKey


def test_progress_removes_folders_and_invalid_characters() -> None:
    none: Any = None
    progress = ProgressWriter(none, ClaimKey("1", 1), Path("/home/1"), 1.0)
    assert progress.shown("/home/1/model/m.onnx holds \0 and \udc80") == "m.onnx holds ? and ?"
    assert len(progress.shown("x" * 10_000)) == 2000
