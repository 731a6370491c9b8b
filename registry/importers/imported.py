"""Result of an import: a file to register, and the information in files beside it.

OpenVINO's own format, a graph (`.xml`) with its weights (`.bin`) beside it, is packed into one file. Other importers
find such files, too.
"""

import re
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from registry.request import Registration
from runtimes.openvino import write_openvino_pack
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Processing

_OTHER: Final = re.compile(r"[^a-z0-9]+")
_LONGEST: Final = 63
_MODEL: Final = "model"
GRAPH_SUFFIX: Final = ".xml"
GRAPH_START: Final = b"<net "


class ImportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model file, and the information found beside it; values that the user gives take precedence."""

    file: Path
    name: str
    """Suggested name of the architecture."""
    kind: str
    """Recognised format, in words."""
    measure: str | None = None
    classes: tuple[str, ...] = ()
    output: str | None = None
    max_batch: int | None = None
    processing: Processing | None = None
    notes: tuple[str, ...] = ()
    """Findings and changes, for the user who registers it."""


def completed(request: Registration, found: ImportedModel) -> Registration:
    """Return the request with the imported file, and with found values where the user gave none."""
    return replace(
        request,
        file=found.file,
        measure=request.measure or found.measure,
        classes=request.classes or found.classes,
        output=request.output or found.output,
        max_batch=min(request.max_batch, found.max_batch or request.max_batch),
        processing=request.processing or found.processing,
    )


def name_of(path: Path, task: str = "") -> str:
    """Return a name for an architecture, from its file or folder.

    It differs from `task`, since clients ask for a task or an architecture by name.
    """
    stem = path.stem if path.is_file() else path.name
    name = _OTHER.sub("-", stem.lower()).strip("-")[:_LONGEST].strip("-") or _MODEL
    return name if name != task else f"{name[: _LONGEST - len(_MODEL) - 1].rstrip('-')}-{_MODEL}"


def labels_file(target: Path) -> Path:
    """Return the file for the names of the classes of a model that is imported to `target`."""
    return target.with_name(f"{target.name}.labels")


def pack_openvino(graph: Path, target: Path) -> None:
    """Write the graph and the weights beside it to one file; raises `InvalidRequest` if the weights are missing."""
    weights = graph.with_suffix(".bin")
    if not weights.is_file():
        raise InvalidRequest(
            f"{graph.name} is an OpenVINO graph; its weights, {weights.name}, are not in the same folder"
        )
    write_openvino_pack(graph, weights, target)
