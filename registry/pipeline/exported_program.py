"""Torch's exported programs (`.pt2`): made safe to load, and their signature read.

A `.pt2` archive holds its graph as JSON and its weights as raw bytes, but `torch.export.load` also unpickles, without
restriction, whatever else lies in it: the example inputs it was traced with, tensors marked `use_pickle`, custom
objects; and it can load native libraries. So what is stored, and later loaded, is a copy that holds only entries known
to be plain data: the example inputs are emptied, and an archive that needs anything else is refused.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from registry.signature import VARIABLE, Signature, datatype_from
from runtimes.pytorch import OUTPUTS_ENTRY, import_torch, input_names
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

_EXAMPLES: Final = re.compile(r"data/sample_inputs/[^/]+\.pt")
_CONFIG: Final = re.compile(r"data/(weights|constants)/[^/]+_config\.json")
_PLAIN: Final = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment|\.data/[^/]+|models/[^/]+\.json"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|extra/.*"
)


def make_safe(source: Path, target: Path, outputs: Sequence[str] = ()) -> None:
    """Write the plain data of `source` to `target`, with the names of the program's outputs; blocks.

    Raises:
        InvalidRequest: the archive is damaged, or holds pickles or native code beyond its example inputs.
    """
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as safe:
            root = ""
            for entry in archive.infolist():
                root, _, name = entry.filename.partition("/")
                if name != OUTPUTS_ENTRY:
                    safe.writestr(f"{root}/{name}", _content(source, archive, entry, name))
            safe.writestr(f"{root}/{OUTPUTS_ENTRY}", msgspec.json.encode(outputs))
    except (zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise InvalidRequest(f"{source.name} is a damaged archive: {error}") from error


def _content(source: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    if _EXAMPLES.fullmatch(name):
        return b""
    if _CONFIG.fullmatch(name):
        content = archive.read(entry)
        if _says_pickle(msgspec.json.decode(content)):
            raise InvalidRequest(
                f"{source.name}: {name} asks to unpickle tensors or objects, which would run code of its author: "
                "export the program with plain dense tensors"
            )
        return content
    if _PLAIN.fullmatch(name):
        return archive.read(entry)
    raise InvalidRequest(f"{source.name} holds {name}, which is no plain data: export the program without it")


def _says_pickle(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("use_pickle")) or any(_says_pickle(item) for item in value.values())
    return isinstance(value, list) and any(_says_pickle(item) for item in value)


# -- the signature -----------------------------------------------------------------------------------------------------
def read_exported_program(file: Path) -> Signature:
    """Read the signature of a safe copy; blocks, and belongs in a process of its own.

    Raises:
        InvalidRequest: torch cannot load it, or it has inputs or outputs that are no tensors.
    """
    torch = import_torch()

    try:
        with file.open("rb") as content:
            program: Any = torch.export.load(content)
    except Exception as error:  # torch raises anything at all for a file that is damaged
        raise InvalidRequest(f"{file.name} cannot be loaded by torch {torch.__version__}: {error}") from error
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    positional, named = input_names(program)
    taken = program.graph_signature.user_inputs
    if len(taken) != len(positional) + len(named) or not all(name in values for name in taken):
        raise InvalidRequest("every input of the exported program must be one tensor")
    returned = program.call_spec.out_spec
    given = list(program.graph_signature.user_outputs)
    keys = list(returned.context) if returned.type is dict else []
    names = keys or (["output"] if len(given) == 1 else [f"output{index}" for index in range(len(given))])
    bounds = _row_counts(program, values)
    return Signature(
        inputs=tuple(
            replace(_torch_spec("input", name, values[node]), below=bounds.get(node))
            for name, node in zip(positional + named, taken, strict=True)
        ),
        outputs=tuple(_torch_spec("output", name, values[node]) for name, node in zip(names, given, strict=True)),
        named=bool(keys),
    )


def _row_counts(program: Any, values: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the smallest table that each input chooses from, by the name of the input's node."""
    counts: dict[str, int] = {}
    for node in program.graph.nodes:
        if str(node.target).startswith("aten.embedding."):
            table, rows = node.args[0], node.args[1]
            size = int(values[table.name].shape[0])
            counts[rows.name] = min(size, counts.get(rows.name, size))
    return counts


def _torch_spec(kind: str, name: str, value: Any) -> TensorSpec:
    torch = import_torch()

    if not isinstance(value, torch.Tensor):
        raise InvalidRequest(f"{kind} {name!r} is no tensor")
    try:
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error
    shape = tuple(size if isinstance(size, int) else VARIABLE for size in value.shape)
    return TensorSpec(name=name, datatype=datatype_from(kind, name, dtype), shape=shape)
