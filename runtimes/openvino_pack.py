"""A model in OpenVINO's own format in one file: its graph, XML, and its weights, as two entries of a plain zip.

OpenVINO writes two files, and an artifact is one. Neither holds code.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

GRAPH: Final = "openvino/model.xml"
_WEIGHTS: Final = "openvino/model.bin"
_ZIP: Final = b"PK\x03\x04"
_NAME_AT: Final = 30
"""Where the name of a zip's first entry begins."""


def is_openvino_pack(file: Path) -> bool:
    """Whether an artifact is such a file."""
    with file.open("rb") as content:
        start = content.read(_NAME_AT + len(GRAPH))
    return start.startswith(_ZIP) and start[_NAME_AT:] == GRAPH.encode()


def write_openvino_pack(graph: Path, weights: Path, target: Path) -> None:
    """Write both files into one, which depends on nothing but their content; blocks."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as pack:
        for name, file in ((GRAPH, graph), (_WEIGHTS, weights)):
            with pack.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry, file.open("rb") as content:
                shutil.copyfileobj(content, entry)


def read_graph(pack: Path) -> bytes:
    """The graph's XML."""
    with zipfile.ZipFile(pack) as archive:
        return archive.read(GRAPH)


def read_model(openvino: Any, core: Any, pack: Path) -> Any:
    """The model as OpenVINO takes it; blocks, and raises whatever OpenVINO raises of a damaged one."""
    with zipfile.ZipFile(pack) as archive:
        weights = np.frombuffer(archive.read(_WEIGHTS), np.uint8)
    return core.read_model(read_graph(pack), openvino.Tensor(weights))
