"""What is told of a registration: texts that who asked may see, and that Postgres keeps."""

from pathlib import Path
from typing import Any

from registrar.progress import ProgressWriter


def test_texts_are_without_our_folders_and_of_characters_that_there_are() -> None:
    none: Any = None
    progress = ProgressWriter(none, ("1", 1), Path("/home/1"), 1.0)
    assert progress.shown("/home/1/model/m.onnx holds \0 and \udc80") == "m.onnx holds ? and ?"
    assert len(progress.shown("x" * 10_000)) == 2000
