"""Packs a model in OpenVINO's own format, a graph (`.xml`) with its weights (`.bin`) beside it, into one file."""

from pathlib import Path
from typing import Final

from registry.importers.imported import ImportedModel, name_of
from runtimes.openvino_pack import write_openvino_pack
from schemas.errors import InvalidRequest

OPENVINO: Final = "a model in OpenVINO's format"
GRAPH_SUFFIX: Final = ".xml"
GRAPH_START: Final = b"<net "


def import_openvino(graph: Path, target: Path) -> ImportedModel:
    """Pack the graph and its weights into one file; blocks. Raises `InvalidRequest` if the weights are missing."""
    pack_openvino(graph, target)
    return ImportedModel(file=target, name=name_of(graph), kind=OPENVINO)


def pack_openvino(graph: Path, target: Path) -> None:
    """Write the graph and the weights beside it to one file; raises `InvalidRequest` if the weights are missing."""
    weights = graph.with_suffix(".bin")
    if not weights.is_file():
        raise InvalidRequest(
            f"{graph.name} is an OpenVINO graph; its weights, {weights.name}, are not in the same folder"
        )
    write_openvino_pack(graph, weights, target)
