"""Axes of variable length: finds which axes of the outputs are as long as an axis of the inputs, e.g. the tokens.

The model is run with two lengths of each named axis of its inputs, because exporters name dimensions of outputs in many
ways, or not at all. If it cannot be run so, the names in the file decide.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.pipeline.input_bounds import cpu_session, made_up
from registry.signature import VARIABLE, Signature
from schemas.signature import TensorSpec

_UNNAMED: Final = "sequence"
_LENGTHS: Final = ((3, 5), (9, 14), (40, 60), (300, 450))
"""Pairs of lengths, in the order in which they are tried: models may need a minimum, or know a maximum."""


def with_axes(signature: Signature, file: Path, source_format: str) -> Signature:
    """Return the signature with the names of axes that inputs and outputs share; may run the model, and blocks."""
    inputs = tuple(_named(spec) for spec in signature.inputs)
    names = {name for spec in inputs for name in spec.sequences}
    declared = tuple(_kept(spec, names) for spec in signature.outputs)
    found = replace(signature, inputs=inputs, outputs=declared)
    if not names or not any(VARIABLE in spec.shape[1:] for spec in declared):
        return found
    session = cpu_session(file, source_format)
    if session is None:
        return found
    try:
        shapes = {name: _shapes(session.infer, inputs, name) for name in names}
    finally:
        session.close()
    return replace(found, outputs=tuple(_followed(spec, shapes) for spec in declared))


def _named(spec: TensorSpec) -> TensorSpec:
    """Return an input with names of its variable axes besides the batch; an unnamed one gets one if it is the only."""
    variable = [axis for axis, size in enumerate(spec.shape) if axis and size == VARIABLE]
    names = dict(enumerate(spec.axes))
    if len(variable) == 1 and not names.get(variable[0]) and spec.datatype != "BYTES":
        names[variable[0]] = _UNNAMED
    return replace(spec, axes=_axes(spec, {axis: names.get(axis, "") for axis in variable}))


def _kept(spec: TensorSpec, names: set[str]) -> TensorSpec:
    variable = {axis: name for axis, name in enumerate(spec.axes) if axis and name in names and spec.shape[axis] < 0}
    return replace(spec, axes=_axes(spec, variable))


def _axes(spec: TensorSpec, names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(axis, "") for axis in range(len(spec.shape))) if any(names.values()) else ()


Shapes = list[tuple[int, dict[str, tuple[int, ...]]]]
"""Lengths of an axis, each with the shapes of the outputs."""


def _followed(spec: TensorSpec, shapes: Mapping[str, Shapes]) -> TensorSpec:
    """Return an output with the names of the axes whose sizes it has in all runs; declared names where none ran."""
    names = dict(enumerate(spec.axes))
    for name, runs in shapes.items():
        for axis in range(1, len(spec.shape)) if runs else ():
            follows = all(shape.get(spec.name, ())[axis : axis + 1] == (length,) for length, shape in runs)
            if follows and spec.shape[axis] == VARIABLE:
                names[axis] = name
            elif names.get(axis) == name:
                names[axis] = ""
    return replace(spec, axes=_axes(spec, names))


def _shapes(
    infer: Callable[[dict[str, NDArray[Any]]], Mapping[str, NDArray[Any]]], inputs: Sequence[TensorSpec], name: str
) -> Shapes:
    """Return the shapes of the outputs for two lengths of the axis `name`; empty if none of the lengths is computed."""
    for lengths in _LENGTHS:
        runs: Shapes = []
        try:
            for length in lengths:
                sizes = {other: length if other == name else lengths[0] for spec in inputs for other in spec.sequences}
                found = infer({spec.name: made_up(spec, sizes, lengths[0]) for spec in inputs})
                runs.append((length, {output: np.shape(array) for output, array in found.items()}))
        except Exception:  # noqa: BLE001 - any error of the runtime means that it does not compute this length
            continue
        return runs
    return []
