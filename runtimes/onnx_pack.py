"""An ONNX model of more than 2 GB in one file: an uncompressed zip of its graph and its weights.

Protobuf is limited to 2 GB, so the weights of such a model are in files beside its graph, while an artifact is one
file. The offset of the weights in the pack is known, so onnxruntime maps them from there: nothing is unpacked or
copied.
"""

import zipfile
from pathlib import Path
from typing import Any, Final

_GRAPH: Final = "model.onnx"
_WEIGHTS: Final = "weights"
_ZIP: Final = b"PK\x03\x04"
_HEADER: Final = 30
_NAME_AT: Final = 26
_ALIGNMENT: Final = 4096
_CHUNK: Final = 1 << 20


def is_pack(file: Path) -> bool:
    """Return true if an artifact is a pack; torch's programs are zips as well, but begin with another entry."""
    with file.open("rb") as content:
        start = content.read(_HEADER + len(_WEIGHTS))
    return start.startswith(_ZIP) and start[_HEADER:] == _WEIGHTS.encode()


def write_pack(model: Any, folder: Path, target: Path) -> None:
    """Write a pack of a graph whose weights are in files in `folder`; blocks, and changes the graph."""
    tensors = [tensor for tensor in _tensors(model) if tensor.external_data]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as pack:
        with pack.open(_WEIGHTS, "w", force_zip64=True) as weights:
            at = 0
            for tensor in tensors:
                at += _pad(weights, at)
                at += _append(weights, tensor, folder, at)
        pack.writestr(_GRAPH, model.SerializeToString())


def read_pack(pack: Path) -> bytes:
    """Return the graph of a pack; its weights refer to offsets in the pack, relative to the pack's folder."""
    import onnx

    with zipfile.ZipFile(pack) as archive:
        model: Any = onnx.load_model_from_string(archive.read(_GRAPH))
        begin = _content_at(pack, archive.getinfo(_WEIGHTS).header_offset)
    for tensor in _tensors(model):
        if tensor.external_data:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            _locate(tensor, pack.name, begin + int(entries["offset"]), int(entries["length"]))
    return model.SerializeToString()


def _tensors(model: Any) -> list[Any]:
    return list(model.graph.initializer)


def _append(weights: Any, tensor: Any, folder: Path, at: int) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    source, offset = folder / entries["location"], int(entries.get("offset", 0))
    length = int(entries.get("length") or source.stat().st_size - offset)
    with source.open("rb") as content:
        content.seek(offset)
        left = length
        while left:
            chunk = content.read(min(_CHUNK, left))
            if not chunk:
                raise EOFError(f"{source.name} ends before the weights do")
            weights.write(chunk)
            left -= len(chunk)
    _locate(tensor, _WEIGHTS, at, length)
    return length


def _pad(weights: Any, at: int) -> int:
    gap = -at % _ALIGNMENT
    weights.write(bytes(gap))
    return gap


def _locate(tensor: Any, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def _content_at(pack: Path, header_at: int) -> int:
    """Return the offset of an entry's content, after its header, name and extra fields."""
    with pack.open("rb") as content:
        content.seek(header_at)
        header = content.read(_HEADER)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (_NAME_AT, _NAME_AT + 2))
    return header_at + _HEADER + name + extra
