"""What a model file is, and that nothing pickled gets in."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.pipeline.exported_program import make_safe
from registry.pipeline.inspection import SourceFormat, source_format
from schemas.errors import InvalidRequest, OperatorError


def _zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was loaded')",)


PICKLE = pickle.dumps(_Bomb())
WEIGHTS_CONFIG = {"config": {"w": {"path_name": "weight_0", "use_pickle": False}}}


def _program(**changes: bytes) -> dict[str, bytes]:
    entries = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6",
        "byteorder": b"little",
        "models/model.json": b"{}",
        "data/weights/weight_0": b"\0" * 16,
        "data/weights/model_weights_config.json": json.dumps(WEIGHTS_CONFIG).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "data/sample_inputs/model.pt": PICKLE,
    }
    return {f"m/{name}": content for name, content in {**entries, **changes}.items()}


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
    assert source_format(_zip(tmp_path / "m.pt2", _program())) is SourceFormat.EXPORTED_PROGRAM


def test_a_safe_program_holds_no_pickle(tmp_path: Path) -> None:
    source, target = _zip(tmp_path / "m.pt2", _program()), tmp_path / "safe.pt2"
    make_safe(source, target, ["scores"])
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert content["m/data/sample_inputs/model.pt"] == b""
    assert content["m/extra/infaas-outputs.json"] == b'["scores"]'
    assert content["m/data/weights/weight_0"] == b"\0" * 16
    assert all(PICKLE not in entry for entry in content.values())


def test_making_a_safe_program_safe_again_replaces_the_names(tmp_path: Path) -> None:
    source, once, twice = _zip(tmp_path / "m.pt2", _program()), tmp_path / "once", tmp_path / "twice"
    make_safe(source, once, ["a"])
    make_safe(once, twice, ["b"])
    with zipfile.ZipFile(twice) as archive:
        assert archive.namelist().count("m/extra/infaas-outputs.json") == 1
        assert archive.read("m/extra/infaas-outputs.json") == b'["b"]'


@pytest.mark.parametrize(
    "entry",
    ["data/aotinductor/model/a.so", "data/constants/custom_obj_0", "data/constants/opaque_obj_0", "data/weights/x"],
)
def test_programs_with_native_code_or_objects_are_refused(tmp_path: Path, entry: str) -> None:
    source = _zip(tmp_path / "m.pt2", _program(**{entry: b"?"}))
    with pytest.raises(InvalidRequest, match="is no plain data"):
        make_safe(source, tmp_path / "safe")


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_programs_with_pickled_tensors_are_refused(tmp_path: Path, kind: str) -> None:
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}).encode()
    source = _zip(tmp_path / "m.pt2", _program(**{f"data/{kind}/model_{kind}_config.json": config}))
    with pytest.raises(InvalidRequest, match="asks to unpickle"):
        make_safe(source, tmp_path / "safe")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    source = _zip(tmp_path / "m.pt2", _program())
    content = io.BytesIO(source.read_bytes())
    content.getbuffer()[source.read_bytes().index(b"\0" * 16)] = 1
    source.write_bytes(content.getvalue())
    with pytest.raises(InvalidRequest, match="damaged archive"):
        make_safe(source, tmp_path / "safe")
