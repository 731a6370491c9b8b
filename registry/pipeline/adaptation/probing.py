"""Finds the batch axis of inputs and outputs by running a model with two batch sizes.

Exporters leave dimensions unnamed, or put the batch elsewhere for some tensors, as the state of a recurrent network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from registry.pipeline.adaptation.graph import shape_of

_BATCHES: Final = (2, 3)
_LENGTHS: Final = (16, 128, 512, 2048)
"""Sizes of other variable dimensions, in the order in which they are tried."""


def probe_axes(file: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, int] | None:
    """Return the batch axis of each input and output; None if the model has no common batch; blocks, and runs it.

    The batch of an input is its first dimension if that is variable, else its only variable one. The batch of an output
    is the only dimension that is as large as the batch of the inputs. Scalar inputs have none.
    """
    axes: dict[str, int] = {}
    for value in inputs:
        variable = [axis for axis, size in enumerate(shape_of(value)) if isinstance(size, str)]
        if not shape_of(value):
            continue
        if not variable or (variable[0] and len(variable) > 1):
            return None
        axes[value.name] = variable[0]
    shapes = _shapes(file, inputs, outputs, axes) if axes else None
    for value in outputs if shapes is not None else ():
        found = [
            axis
            for axis, sizes in enumerate(zip(*(one[value.name] for one in shapes or ()), strict=False))
            if sizes == _BATCHES
        ]
        if len(found) != 1:
            return None
        axes[value.name] = found[0]
    return axes if shapes is not None else None


def _shapes(
    file: Path, inputs: Sequence[Any], outputs: Sequence[Any], axes: Mapping[str, int]
) -> list[dict[str, tuple[int, ...]]] | None:
    """Return the shapes of the outputs for each batch size; None if the model computes none of the tried lengths."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    names = [value.name for value in outputs]
    try:
        session: Any = onnxruntime.InferenceSession(str(file), quiet, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - the model is inspected later, with a better error
        return None
    for length in _LENGTHS:
        try:
            runs = [session.run(names, _made_up(inputs, axes, batch, length)) for batch in _BATCHES]
            return [dict(zip(names, map(np.shape, run), strict=True)) for run in runs]
        except Exception:  # noqa: BLE001 - any error means that it does not compute this length
            continue
    return None


def _made_up(inputs: Sequence[Any], axes: Mapping[str, int], batch: int, length: int) -> dict[str, NDArray[Any]]:
    made: dict[str, NDArray[Any]] = {}
    for value in inputs:
        sizes = [one if isinstance(one, int) else length for one in shape_of(value)]
        if value.name in axes:
            sizes[axes[value.name]] = batch
        kind = value.type.tensor_type.elem_type
        if kind == TensorProto.STRING:
            made[value.name] = np.full(sizes, "a", object)
        else:
            made[value.name] = np.ones(sizes, onnx.helper.tensor_dtype_to_np_dtype(kind))
    return made
