"""Symmetric INT8 with explicit quantisers, as TensorRT needs it, by onnxruntime's quantiser.

TensorRT accepts no zero points and no quantised biases. Each reader of a tensor gets its own quantisers; TensorRT
merges them itself.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from registry.pipeline.adaptation.graph import operators_of
from registry.pipeline.generators.onnx import prepare
from registry.recipes import CONVOLUTIONS, PRODUCTS, NotApplicable
from registry.samples import Arrays, batches_of

_BATCH: Final = 16


def quantise_symmetric(source: Path, target: Path, calibration: Arrays, batch: int = _BATCH) -> None:
    """Make weights and activations INT8, in batches of at most `batch`. Raises `NotApplicable`."""
    if not operators_of(source) & {*PRODUCTS, *CONVOLUTIONS}:
        raise NotApplicable("the model has neither matrix product nor convolution to quantise")
    with TemporaryDirectory() as folder:
        quantize_static(
            prepare(source, Path(folder)),
            target,
            _Batches(calibration, min(batch, _BATCH)),
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


class _Batches(CalibrationDataReader):
    """Calibration reader of the inputs in small batches."""

    def __init__(self, inputs: Arrays, batch: int) -> None:
        self._batches = batches_of(inputs, batch)

    def get_next(self) -> Any:
        return next(self._batches, None)
