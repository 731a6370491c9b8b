"""What a model file is, and that nothing pickled gets in."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.pipeline.inspection import SourceFormat, source_format
from schemas.errors import InvalidRequest, OperatorError
from tests.exported_programs import write_program


def _zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was loaded')",)


PICKLE = pickle.dumps(_Bomb())


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "model.onnx"])
def test_a_bare_pickle_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PICKLE)
    with pytest.raises(InvalidRequest, match=r"is a pickle.*runs any code"):
        source_format(path)


def test_an_old_pickle_is_refused_by_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([1], protocol=0))
    with pytest.raises(InvalidRequest, match="is a pickle"):
        source_format(path)


def test_what_torch_save_writes_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "model.pt", {"model/data.pkl": PICKLE, "model/data/0": b"\0"})
    with pytest.raises(InvalidRequest, match="is a pickle"):
        source_format(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"hello", "no model in a known format"), (b"PK\x03\x04 and no more", "damaged archive")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=said):
        source_format(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="of no model"):
        source_format(_zip(tmp_path / "photos.zip", {"a.jpg": b"\xff"}))


def test_a_missing_file_is_an_operators_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        source_format(tmp_path / "none.onnx")


def test_models_are_recognised(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    assert source_format(make_model()) is SourceFormat.ONNX
    assert source_format(write_program(tmp_path / "m.pt2")) is SourceFormat.EXPORTED_PROGRAM
