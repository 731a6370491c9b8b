"""Dynamic INT8 of ONNX models by onnxruntime's quantiser, and what its quantisers want beforehand.

What was learned by measuring (accuracies on the zoo):
* Dynamic quantisation is for matrix products. On convolutions it is 5 to 20 times slower than fp32, so those are left
  alone; embedding tables are included, since they only shrink.
* One scale per channel instead of one per tensor: +0.5 to 1 point on a transformer, at no cost.
* Where sums of products saturate, weights get 7 bits: with 8 a small classifier fell from 100 % to 79 or 87.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.pipeline.adaptation.graph import operators_of
from registry.recipes import PRODUCTS, NotApplicable
from runtimes.device import int8_saturates


def quantise_dynamic(source: Path, target: Path) -> None:
    """Make the weights INT8; the scale of the activations is computed for each batch. Raises `NotApplicable`."""
    if not operators_of(source) & {*PRODUCTS}:
        raise NotApplicable("the model has no matrix product to quantise")
    with TemporaryDirectory() as folder:
        # The quantiser turns each Gemm into a MatMul first.
        quantize_dynamic(
            prepare(source, Path(folder)),
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=int8_saturates(),
            weight_type=QuantType.QInt8,
        )


def prepare(source: Path, folder: Path) -> Path:
    """Write the graph with constants folded and shapes known, as the quantisers want it, and return its file."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    return prepared
