"""Imports models of a Triton model repository: a folder for each model, with `config.pbtxt` and numbered versions.

ONNX models are registered, whatever backend runs them there; OpenVINO's two files are packed into one. Formats of
other backends are refused: TorchScript is a pickle, and a TensorRT plan is bound to one GPU and one release.
`config.pbtxt` is a protocol buffer in text form, of which each field is a list, since it may repeat.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from registry.importers.imported import GRAPH_SUFFIX, ImportedModel, name_of, pack_openvino
from schemas.errors import InvalidRequest

_TOKEN: Final = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<word>[\w.+-]+)|(?P<mark>[{}\[\]<>:,;])"""
)
_DEEPEST: Final = 20
Message = dict[str, list[Any]]
_BACKENDS: Final = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch",
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
}
_DEFAULTS: Final = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
_INSTEAD: Final = {
    ".plan": (
        "a TensorRT engine fits one GPU and one release only: register the ONNX file from which it was built, and "
        "TensorRT variants are built here"
    ),
    ".pt": "TorchScript is loaded by unpickling: save the model as .pt2 by torch.export.save, and register this file",
    ".py": "the Python code of the python backend is not a model file",
}


def parse_config(text: str) -> Message:
    """Parse a message: words and strings as `str`, messages as dicts; raises `InvalidRequest` if it is malformed."""
    return _Reader(list(_tokens(text))).message(closing=None, depth=0)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise InvalidRequest(f"config.pbtxt: {text[at : at + 20]!r} is not valid")
        at = found.end()
        if found.lastgroup is not None:
            yield found[0]


class _Reader:
    """Reader of tokens, from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def message(self, closing: str | None, depth: int) -> Message:
        if depth > _DEEPEST:
            raise InvalidRequest("config.pbtxt is nested too deeply")
        fields: Message = {}
        while (token := self._next(closing)) != closing:
            if token in (",", ";"):
                continue
            values = fields.setdefault(str(token), [])
            if self._peek() == ":":
                self._next(":")
            values += self._value(depth)
        return fields

    def _value(self, depth: int) -> list[Any]:
        token = self._next("a value")
        if token == "{":
            return [self.message("}", depth + 1)]
        if token == "<":
            return [self.message(">", depth + 1)]
        if token != "[":
            return [_plain(str(token))]
        values: list[Any] = []
        while self._peek() != "]":
            if self._peek() == ",":
                self._next(",")
            else:
                values += self._value(depth + 1)
        self._next("]")
        return values

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, wanted: str | None) -> str | None:
        token = self._peek()
        if token is None and wanted is not None:
            raise InvalidRequest(f"config.pbtxt ends before {wanted}")
        self._at += 1
        return token


def _plain(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token[:1] in ("'", '"') else token


def read_triton_model(folder: Path, target: Path) -> ImportedModel:
    """Read a model's configuration and find its newest version; OpenVINO's files are packed into `target`.

    Raises:
        InvalidRequest: the model cannot be served; the message says how to proceed.
    """
    found = _describe(folder)
    if found.file.suffix == GRAPH_SUFFIX:
        pack_openvino(found.file, target)
        return replace(found, file=target)
    return found


def _describe(folder: Path) -> ImportedModel:
    """Describe a model without reading its file."""
    config = _config(folder)
    backend = _backend(config)
    file = _newest(folder, config, backend)
    if file.suffix not in (".onnx", ".pt2", GRAPH_SUFFIX) or not file.exists():
        told = f"{folder.name} ({backend} backend, {file.name})"
        raise InvalidRequest(f"{told} cannot be served: {_reason(backend, file)}")
    classes, labelled = _labels(folder, config)
    limit = int(_first(config, "max_batch_size", "0"))
    notes = [f"version {file.parent.name}, {backend} backend"]
    if limit:
        notes.append(f"batches of at most {limit}, as configured")
    if classes:
        notes.append(f"{len(classes)} classes by {labelled[1]}")
    return ImportedModel(
        file=file,
        name=name_of(folder),
        kind="a model of a Triton repository",
        classes=classes,
        output=labelled[0] or None,
        max_batch=limit or None,
        notes=tuple(notes),
    )


def describe_repository(folder: Path) -> str:
    """Describe each model of a repository, or why it cannot be served, for a user who must name one."""
    lines: list[str] = []
    for model in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        try:
            found = _describe(model)
            lines.append(f"{model.name}: {', '.join(found.notes)}")
        except InvalidRequest as error:
            lines.append(str(error))
    return f"{folder} is a Triton repository; register one model of it, e.g. {folder}/NAME. " + "; ".join(lines)


def _config(folder: Path) -> Message:
    file = folder / "config.pbtxt"
    try:
        return parse_config(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"cannot read {file}: {error}") from error


def _first(config: Message, name: str, default: str = "") -> str:
    return str((config.get(name) or [default])[0])


def _backend(config: Message) -> str:
    platform = _first(config, "platform")
    return _first(config, "backend") or _BACKENDS.get(platform, platform) or "onnxruntime"


def _newest(folder: Path, config: Message, backend: str) -> Path:
    versions = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name.isdigit()]
    if not versions:
        raise InvalidRequest(f"{folder.name} ({backend} backend) has no version: a folder with a number and a model")
    newest = max(versions, key=lambda entry: int(entry.name))
    named = _first(config, "default_model_filename")
    wanted = _within(newest, named) if named else newest / _DEFAULTS.get(backend, "model.py")
    for file in (wanted, newest / "model.onnx"):
        if file.exists():
            return file
    return wanted


def _within(folder: Path, name: str) -> Path:
    """Return a file that the configuration names; it must be in `folder`, since the configuration is not trusted."""
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise InvalidRequest(f"config.pbtxt names {name[:80]!r}, which is not in {folder.name}")
    return folder / name


def _reason(backend: str, file: Path) -> str:
    if not file.exists() and backend in _DEFAULTS:
        return f"version {file.parent.name} has no {file.name}"
    return _INSTEAD.get(file.suffix, f"models of the {backend} backend are not supported: register its parts")


def _labels(folder: Path, config: Message) -> tuple[tuple[str, ...], tuple[str, str]]:
    """Return the names in the labels file, and its output and file name."""
    outputs: list[Any] = config.get("output", [])
    for output in outputs:
        name = _first(output, "label_filename")
        if name and (file := _within(folder, name)).is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip()), (_first(output, "name"), name)
    return (), ("", "")
