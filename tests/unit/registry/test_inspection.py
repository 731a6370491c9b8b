"""Tests of detecting a model file's format and of refusing pickles."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.pipeline.source_format import SourceFormat, source_format
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
def test_source_format_refuses_pickle_of_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PICKLE)
    with pytest.raises(InvalidRequest, match=r"is a pickle.*executes code"):
        source_format(path)


def test_source_format_refuses_protocol_0_pickle_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([1], protocol=0))
    with pytest.raises(InvalidRequest, match="is a pickle"):
        source_format(path)


def test_source_format_refuses_torch_save_archive(tmp_path: Path) -> None:
    path = _zip(tmp_path / "model.pt", {"model/data.pkl": PICKLE, "model/data/0": b"\0"})
    with pytest.raises(InvalidRequest, match="is a pickle"):
        source_format(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"hello", "not a model in a known format"), (b"PK\x03\x04 and no more", "damaged archive")],
)
def test_source_format_refuses_unknown_content(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=said):
        source_format(path)


def test_source_format_refuses_archive_without_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="without a model"):
        source_format(_zip(tmp_path / "photos.zip", {"a.jpg": b"\xff"}))


def test_source_format_reports_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        source_format(tmp_path / "none.onnx")


def test_source_format_recognises_models(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    assert source_format(make_model()) is SourceFormat.ONNX
    assert source_format(write_program(tmp_path / "m.pt2")) is SourceFormat.EXPORTED_PROGRAM
