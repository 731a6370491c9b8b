"""A model in OpenVINO's format in one file: its XML graph and its weights, as two entries of an uncompressed zip.

OpenVINO writes two files, while an artifact is one. Neither holds code.
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
"""Offset of the name of a zip's first entry."""


def is_openvino_pack(file: Path) -> bool:
    """Return true if an artifact is such a pack."""
    with file.open("rb") as content:
        start = content.read(_NAME_AT + len(GRAPH))
    return start.startswith(_ZIP) and start[_NAME_AT:] == GRAPH.encode()


def write_openvino_pack(graph: Path, weights: Path, target: Path) -> None:
    """Write both files into one; the result depends only on their content; blocks."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as pack:
        for name, file in ((GRAPH, graph), (_WEIGHTS, weights)):
            with pack.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry, file.open("rb") as content:
                shutil.copyfileobj(content, entry)


def read_graph(pack: Path) -> bytes:
    """Return the graph's XML."""
    with zipfile.ZipFile(pack) as archive:
        return archive.read(GRAPH)


def read_model(openvino: Any, core: Any, pack: Path) -> Any:
    """Return OpenVINO's model of a pack; blocks. Raises OpenVINO's errors for a damaged one."""
    with zipfile.ZipFile(pack) as archive:
        weights = np.frombuffer(archive.read(_WEIGHTS), np.uint8)
    return core.read_model(read_graph(pack), openvino.Tensor(weights))
