"""Conversions of ONNX models without a search: FP16, dynamic INT8, and INT8 for TensorRT and for OpenVINO.

Choices for dynamic INT8, from measurements on the zoo:
* Only matrix products and embedding tables are quantised. Dynamically quantised convolutions are 5 to 20 times slower
  than FP32.
* Each channel has its own scale: this gains 0.5 to 1 points of accuracy on a transformer, at no cost.
* On CPUs where sums of products saturate, weights get 7 bits: with 8 bits accuracy drops by up to 21 points.

TensorRT accepts no zero points and no quantised biases. Each reader of a tensor gets its own quantisers; TensorRT
merges them itself.

NNCF, OpenVINO's own quantiser, smooths activations and corrects biases, unlike onnxruntime's quantiser. Transformers
therefore run faster in OpenVINO at the same accuracy; convolutional networks gain nothing. It is a separate extra
(`infaas[nncf]`), and in no lock file, because it needs 150 MB of packages and an older numpy than newer Pythons use
here.
"""

import importlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.pipeline.adaptation.graph import operators_of
from registry.recipes import CONVOLUTIONS, PRODUCTS, NotApplicable
from registry.samples import Arrays, batches_of
from runtimes.device import int8_saturates

_FLOAT = onnx.TensorProto.FLOAT
_BATCH: Final = 16
_ATTENTION: Final = 2
"""Products of two activations, as attention layers have; a model with at least this many is quantised as a
transformer."""


def quantise_dynamic(source: Path, target: Path) -> None:
    """Make the weights INT8; scales of activations are computed for each batch. Raises `NotApplicable`."""
    if not operators_of(source) & {*PRODUCTS}:
        raise NotApplicable("the model has no matrix product to quantise")
    with TemporaryDirectory() as folder:
        # The quantiser converts each Gemm to a MatMul first.
        quantize_dynamic(
            prepare(source, Path(folder)),
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=int8_saturates(),
            weight_type=QuantType.QInt8,
        )


def prepare(source: Path, folder: Path) -> Path:
    """Write the graph with constants folded and shapes inferred, as the quantisers need it, and return its file."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    return prepared


def to_fp16(source: Path, target: Path) -> None:
    """Convert a model. Weights too large for FP16 are clipped to its largest number; verification measures the loss.

    Raises:
        NotApplicable: the model has no FP32 weights.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # extends `sys.path`

    model = onnx.load(source)
    if not any(tensor.data_type == _FLOAT for tensor in model.graph.initializer):
        raise NotApplicable("the model has no FP32 weights to convert")
    onnx.save(convert_float_to_float16(model, keep_io_types=True), target)


def quantise_symmetric(source: Path, target: Path, calibration: Arrays, batch: int) -> None:
    """Make weights and activations INT8, in batches of at most `batch`. Raises `NotApplicable`."""
    if not operators_of(source) & {*PRODUCTS, *CONVOLUTIONS}:
        raise NotApplicable("the model has neither matrix product nor convolution to quantise")
    with TemporaryDirectory() as folder:
        quantize_static(
            prepare(source, Path(folder)),
            target,
            BatchReader(batches_of(calibration, min(batch, _BATCH))),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*PRODUCTS, *CONVOLUTIONS],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Entropy,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
            },
        )


class BatchReader(CalibrationDataReader):
    """Calibration reader of batches."""

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Any:
        """Return the next batch, or None after the last one."""
        return next(self._batches, None)


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
