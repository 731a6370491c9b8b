"""A model in OpenVINO's own format: a graph, `.xml`, and its weights, `.bin`, beside it."""

from pathlib import Path
from typing import Final

from registry.importers.imported import ImportedModel, name_of
from runtimes.openvino_pack import write_openvino_pack
from schemas.errors import InvalidRequest

OPENVINO: Final = "a model in OpenVINO's format"
GRAPH_SUFFIX: Final = ".xml"
GRAPH_START: Final = b"<net "


def import_openvino(graph: Path, target: Path) -> ImportedModel:
    """Make one file of the two; blocks. Raises `InvalidRequest` where the other is not there."""
    pack_openvino(graph, target)
    return ImportedModel(file=target, name=name_of(graph), kind=OPENVINO)


def pack_openvino(graph: Path, target: Path) -> None:
    """Write the graph and the weights beside it to one file; raises `InvalidRequest` where there are none."""
    weights = graph.with_suffix(".bin")
    if not weights.is_file():
        raise InvalidRequest(f"{graph.name} is a graph of OpenVINO; its weights, {weights.name}, are not beside it")
    write_openvino_pack(graph, weights, target)
