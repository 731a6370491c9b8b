"""INT8 by NNCF, OpenVINO's own quantiser, as an ONNX file.

NNCF smooths activations and corrects biases, unlike onnxruntime's quantiser. Transformers therefore run faster in
OpenVINO at the same accuracy; convolutional networks gain nothing. It is a separate extra (`infaas[nncf]`), and in no
lock file, because it needs 150 MB of packages and an older numpy than newer Pythons use here.
"""

import importlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

import onnx

from registry.samples import Arrays

_ATTENTION: Final = 2
"""Products of two activations, as attention layers have; a model with at least this many is quantised as a
transformer."""


def quantise_nncf(source: Path, target: Path, calibration: Arrays) -> None:
    """Make weights and activations INT8, with scales computed from the calibration inputs."""
    nncf: Any = importlib.import_module("nncf")
    rows = len(next(iter(calibration.values())))
    singles = [{name: array[row : row + 1] for name, array in calibration.items()} for row in range(rows)]
    model = onnx.load(source)
    kind = nncf.ModelType.TRANSFORMER if _is_transformer(model) else None
    onnx.save(nncf.quantize(model, nncf.Dataset(singles), model_type=kind, subset_size=rows), target)


def _is_transformer(model: Any) -> bool:
    weights = {tensor.name for tensor in model.graph.initializer}
    operators = Counter(node.op_type for node in model.graph.node if not weights.intersection(node.input))
    return operators["Softmax"] > 0 and operators["MatMul"] >= _ATTENTION
