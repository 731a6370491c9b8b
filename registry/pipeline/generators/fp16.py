"""FP16 from FP32, by onnxruntime's converter: it converts weights and operators, but not inputs and outputs."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from registry.recipes import NotApplicable

_FLOAT = onnx.TensorProto.FLOAT


def to_fp16(source: Path, target: Path) -> None:
    """Convert a model. Weights too large for FP16 are clipped to its largest number; verification measures the loss.

    Raises:
        NotApplicable: the model has no FP32 weights.
    """
    model = onnx.load(source)
    if not any(tensor.data_type == _FLOAT for tensor in model.graph.initializer):
        raise NotApplicable("the model has no FP32 weights to convert")
    onnx.save(convert_float_to_float16(model, keep_io_types=True), target)
