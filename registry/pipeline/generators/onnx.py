"""INT8 variants of ONNX models by onnxruntime's quantiser.

What was learned by measuring (accuracies on the zoo):
* Dynamic quantisation is for matrix products. On convolutions it is 5 to 20 times slower than fp32, so those are left
  alone; embedding tables are included, since they only shrink.
* One scale per channel instead of one per tensor: +0.5 to 1 point on a transformer, at no cost.
* Static quantisation calibrates with plain minima and maxima. A moving average of them clips activations.
* In a model without convolutions only the matrix products are quantised statically: additions, normalisations and
  softmax of a transformer lose more than they gain.
* Where sums of products saturate, weights get 7 bits: with 8 a small classifier fell from 100 % to 79 or 87.
"""

from collections.abc import Iterator
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

from registry.recipes import CONVOLUTIONS, PRODUCTS, NotApplicable
from registry.samples import Arrays
from runtimes.device import int8_saturates

_CALIBRATION_BATCH: Final = 16


def quantise_dynamic(source: Path, target: Path) -> None:
    """Make the weights INT8; the scale of the activations is computed for each batch. Raises `NotApplicable`."""
    if not _operators(source) & {*PRODUCTS}:
        raise NotApplicable("the model has no matrix product to quantise")
    with TemporaryDirectory() as folder:
        # The quantiser turns each Gemm into a MatMul first.
        quantize_dynamic(
            _prepared(source, Path(folder)),
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=int8_saturates(),
            weight_type=QuantType.QInt8,
        )


def quantise_static(source: Path, target: Path, calibration: Arrays) -> None:
    """Make weights and activations INT8, at scales taken from the calibration inputs. Raises `NotApplicable`."""
    operators = _operators(source)
    if not operators & {*PRODUCTS, *CONVOLUTIONS}:
        raise NotApplicable("the model has neither matrix product nor convolution to quantise")
    everything = bool(operators & {*CONVOLUTIONS})
    with TemporaryDirectory() as folder:
        quantize_static(
            _prepared(source, Path(folder)),
            target,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if everything else list(PRODUCTS),
            per_channel=True,
            reduce_range=int8_saturates(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


class _Batches(CalibrationDataReader):
    """The calibration inputs in small batches."""

    def __init__(self, inputs: Arrays) -> None:
        self._batches = _split(inputs)

    def get_next(self) -> Any:
        return next(self._batches, None)


def _split(inputs: Arrays) -> Iterator[Arrays]:
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, _CALIBRATION_BATCH):
        yield {name: array[start : start + _CALIBRATION_BATCH] for name, array in inputs.items()}


def _prepared(source: Path, folder: Path) -> Path:
    """The graph with constants folded and shapes known, as the quantiser wants it."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    return prepared


def _operators(source: Path) -> set[str]:
    model: Any = onnx.load(source, load_external_data=False)
    return {node.op_type for node in model.graph.node}
