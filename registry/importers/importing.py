"""Recognises the format of a model, without executing it, and imports it: the step `ImportModel`.

A pickle is a program, so none is loaded. XGBoost and LightGBM have formats of their own, and scikit-learn has skops;
for other pickles the error names the Python call that converts them.
"""

import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from registry.importers import trees
from registry.importers.hugging_face import read_hugging_face
from registry.importers.imported import GRAPH_START, GRAPH_SUFFIX, ImportedModel, name_of, pack_openvino
from registry.importers.sentence_encoder import MODULES
from registry.importers.triton import describe_repository, read_triton_model
from registry.pipeline.source_format import is_pickle
from schemas.errors import InvalidRequest, OperatorError

_START: Final = 4096
_CONVERT: Final = (
    "for scikit-learn convert the model where you trained it, `onnx.save(skl2onnx.to_onnx(model, "
    "X[:1].astype('float32'), options={'zipmap': False}), 'model.onnx')`, or save it by `skops.io.dump`; XGBoost has "
    "save_model('model.json'), LightGBM save_model('model.txt')"
)


class ImportKind(StrEnum):
    """Format of a file or folder."""

    MODEL_FILE = "a model file"
    """`.onnx` or `.pt2`, which is registered unchanged."""
    HUGGING_FACE = "a Hugging Face folder"
    TRITON_MODEL = "a model of a Triton repository"
    TRITON_REPOSITORY = "a Triton model repository"
    XGBOOST = trees.XGBOOST
    LIGHTGBM = trees.LIGHTGBM
    SKOPS = trees.SKOPS
    OPENVINO = "a model in OpenVINO's format"


class ImportModel(msgspec.Struct, frozen=True, tag=True):
    """Make a file that can be registered from the file or folder `source`."""

    source: Path
    target: Path
    """File to write, if the source cannot be registered itself."""

    def run(self) -> ImportedModel:
        """Recognise the source and make a file of it.

        Raises:
            InvalidRequest: it cannot be served; the message says how to proceed.
            OperatorError: a required package is not installed.
        """
        kind = kind_of(self.source)
        match kind:
            case ImportKind.HUGGING_FACE:
                return read_hugging_face(self.source, self.target)
            case ImportKind.TRITON_MODEL:
                return read_triton_model(self.source, self.target)
            case ImportKind.OPENVINO:
                pack_openvino(self.source, self.target)
                return ImportedModel(file=self.target, name=name_of(self.source), kind=kind)
            case ImportKind.TRITON_REPOSITORY:
                raise InvalidRequest(describe_repository(self.source))
            case ImportKind.MODEL_FILE:
                return ImportedModel(file=self.source, name=name_of(self.source), kind=kind)
            case _:
                return trees.convert_trees(self.source, self.target, kind)


def kind_of(path: Path) -> ImportKind:
    """Return the format of a file or folder, recognised by its content.

    Raises:
        OperatorError: it cannot be read.
        InvalidRequest: it is a folder of unknown format, or a pickle.
    """
    if path.is_dir():
        return _kind_of_folder(path)
    try:
        with path.open("rb") as content:
            start = content.read(_START)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror or error}") from error
    if is_pickle(path, start):
        raise InvalidRequest(f"{path.name} is a pickle, and loading a pickle executes code from the file: {_CONVERT}")
    if start.startswith(b"tree\nversion="):
        return ImportKind.LIGHTGBM
    if b'"learner"' in start or (start[:1] == b"{" and b"learner" in start):
        return ImportKind.XGBOOST
    if path.suffix == GRAPH_SUFFIX and GRAPH_START in start:
        return ImportKind.OPENVINO
    if zipfile.is_zipfile(path) and _holds(path, "schema.json"):
        return ImportKind.SKOPS
    return ImportKind.MODEL_FILE


def _kind_of_folder(folder: Path) -> ImportKind:
    if _is_triton_model(folder):
        return ImportKind.TRITON_MODEL
    if (folder / "config.json").is_file() or (folder / MODULES).is_file():
        return ImportKind.HUGGING_FACE
    if any(_is_triton_model(entry) for entry in folder.iterdir() if entry.is_dir()):
        return ImportKind.TRITON_REPOSITORY
    raise InvalidRequest(f"{folder} is neither a Hugging Face folder (config.json) nor a Triton folder (config.pbtxt)")


def _is_triton_model(folder: Path) -> bool:
    numbered = any((entry / "model.onnx").exists() for entry in folder.iterdir() if entry.name.isdigit())
    return (folder / "config.pbtxt").is_file() or numbered


def _holds(file: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return name in archive.namelist()
    except zipfile.BadZipFile:
        return False
