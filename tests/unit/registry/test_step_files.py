"""Tests of the files of steps and of the checks on an untrusted step's results."""

import os
from pathlib import Path

import pytest

from registry.importers.imported import ImportedModel
from registry.importers.importing import ImportModel
from registry.pipeline.generation import GenerateVariant
from registry.pipeline.step_files import OwnFolders, StepFiles, check_result, step_files
from registry.recipes import GeneratorKind
from schemas.errors import InvalidRequest, ModelFailed
from schemas.rows.catalog import Processing, Tokenise


@pytest.fixture
def own(tmp_path: Path) -> tuple[OwnFolders, Path, Path]:
    """Folders of a step that reads `real/read` and writes `real/target`; also its own folder and the real one."""
    real, folder = tmp_path / "real", tmp_path / "step"
    real.mkdir()
    folder.mkdir()
    (real / "read").write_text("read")
    return OwnFolders(folder, StepFiles((real / "read",), (real / "target",))), folder / "0", real


def test_take_over_moves_only_declared_outputs(own: tuple[OwnFolders, Path, Path]) -> None:
    folders, inside, real = own
    for name in ("target", "target.data", "other", "read"):
        (inside / name).write_text(f"new {name}")
    folders.take_over()
    assert sorted(file.name for file in real.iterdir()) == ["read", "target", "target.data"]
    assert (real / "read").read_text() == "read"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_take_over_refuses_links_pipes_and_folders(own: tuple[OwnFolders, Path, Path], kind: str) -> None:
    """Following a link would publish the file that it points to."""
    folders, inside, real = own
    match kind:
        case "link":
            (inside / "target").symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(inside / "target")
        case _:
            (inside / "target").mkdir()
    with pytest.raises(ModelFailed, match="target, which is not a plain file"):
        folders.take_over()
    assert [file.name for file in real.iterdir()] == ["read"]


@pytest.mark.parametrize("file", ["/etc/passwd", "model/../../etc/passwd", "target/../secret", "model-of-others"])
def test_check_result_refuses_files_outside_step(tmp_path: Path, file: str) -> None:
    step = ImportModel(tmp_path / "model", tmp_path / "target")
    named = Processing(before=Tokenise(tokenizer=str(tmp_path / file), max_tokens=8))
    for wrong in (
        ImportedModel(file=tmp_path / file, name="m", kind="k"),
        ImportedModel(file=step.target, name="m", kind="k", processing=named),
    ):
        with pytest.raises(InvalidRequest, match="which does not belong to it"):
            check_result(step, wrong)
    check_result(step, ImportedModel(file=tmp_path / "model" / "model.onnx", name="m", kind="k"))
    check_result(step, ImportedModel(file=step.target, name="m", kind="k"))


def test_step_files_makes_paths_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = step_files(GenerateVariant(GeneratorKind.FP16, Path("a"), Path("b"), None, hardware="cuda"))
    assert files == StepFiles((tmp_path / "a",), (tmp_path / "b", tmp_path / "b.pt2"), devices=True)
