"""Makes the batch variable in models that were exported for one batch size.

The first dimension is made variable, and so is the batch in the constant shapes of reshapes. The result is tested:
several batches at once must give the outputs that the original model gives for each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from registry.pipeline.adaptation.graph import constants_of, replace_tensor, shape_of

_TRIED: Final = 3
_LENGTH: Final = 16
_SEED: Final = 0
_TOLERANCE: Final = 1e-3
_NAME: Final = "batch"


def fixed_batch(graph: Any) -> int | None:
    """Return the batch size of all inputs and outputs; None if it is variable, or they differ."""
    sizes = {shape_of(value)[0] if shape_of(value) else None for value in _values(graph)}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def free_batch(model: Any, size: int) -> None:
    """Make the first dimension of inputs and outputs variable, and shapes that begin with `size`."""
    for value in _values(model.graph):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_param = _NAME
    del model.graph.value_info[:]
    constants = constants_of(model.graph)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _free_shape(constants[node.input[1]], size)


def _free_shape(tensor: Any, size: int) -> None:
    shape = numpy_helper.to_array(tensor).copy()
    if shape.ndim == 1 and len(shape) and shape[0] == size:
        shape[0] = 0 if -1 in shape else -1  # 0 copies the dimension of the input
        replace_tensor(tensor, shape)


def _values(graph: Any) -> list[Any]:
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in (*graph.input, *graph.output) if value.name not in weights]


# -- the test ----------------------------------------------------------------------------------------------------------
def computes_alike(original: Path, freed: Path, size: int) -> bool:
    """Return true if several batches at once give the outputs of the original for each; blocks, and loads both."""
    import onnxruntime

    model: Any = onnx.load(original, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    random = np.random.default_rng(_SEED)
    inputs = {value.name: _made_up(value, random) for value in model.graph.input if value.name not in weights}
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        on_cpu = ["CPUExecutionProvider"]
        before, after = (onnxruntime.InferenceSession(str(one), quiet, providers=on_cpu) for one in (original, freed))
        parts = [
            before.run(None, {name: rows[start : start + size] for name, rows in inputs.items()})
            for start in range(0, size * _TRIED, size)
        ]
        together = after.run(None, inputs)
    except Exception:  # noqa: BLE001 - any error means that it does not compute alike
        return False
    return _alike([np.concatenate(part) for part in zip(*parts, strict=True)], together)


def _made_up(value: Any, random: np.random.Generator) -> NDArray[Any]:
    size, *rest = (one if isinstance(one, int) else _LENGTH for one in shape_of(value))
    shape = (size * _TRIED, *rest)
    kind = value.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        return random.choice(np.array(["a", "b", "c"], object), shape)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return (random.normal(size=shape) if dtype.kind == "f" else random.integers(0, 2, shape)).astype(dtype)


def _alike(alone: Sequence[Any], together: Sequence[Any]) -> bool:
    for one, other in zip(alone, together, strict=True):
        if one.shape != other.shape:
            return False
        if one.dtype.kind == "f":
            if not np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE * max(float(np.ptp(one)), 1e-6)):
                return False
        elif not np.array_equal(one, other):
            return False
    return True
