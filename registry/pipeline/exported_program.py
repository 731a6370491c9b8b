"""Signatures of torch's exported programs (`.pt2`), read from the safe copies of `runtimes.exported_archive`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from registry.signature import VARIABLE, Signature, datatype_from
from runtimes.pytorch import import_torch, input_names, load_program
from schemas.errors import InvalidRequest, ModelFailed
from schemas.rows.catalog import TensorSpec


def read_exported_program(file: Path) -> Signature:
    """Read the signature of a safe copy; blocks, and should run in a process of its own.

    Raises:
        InvalidRequest: torch cannot load it, or an input or output is not a tensor.
    """
    torch = import_torch()

    try:
        program: Any = load_program(file)[0]
    except ModelFailed:
        raise
    except Exception as error:  # torch raises any kind of error for a damaged file
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
    """Return the rows of the smallest table that each input indexes, by the name of the input's node."""
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
        raise InvalidRequest(f"{kind} {name!r} is not a tensor")
    try:
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error
    shape = tuple(size if isinstance(size, int) else VARIABLE for size in value.shape)
    return TensorSpec(name=name, datatype=datatype_from(kind, name, dtype), shape=shape)
