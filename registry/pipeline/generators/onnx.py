"""Dynamic INT8 of ONNX models, by onnxruntime's quantiser, and the preparation that its quantisers need.

Choices, from measurements on the zoo:
* Only matrix products and embedding tables are quantised. Dynamically quantised convolutions are 5 to 20 times slower
  than FP32.
* Each channel has its own scale: this gains 0.5 to 1 points of accuracy on a transformer, at no cost.
* On CPUs where sums of products saturate, weights get 7 bits: with 8 bits accuracy drops by up to 21 points.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.pipeline.adaptation.graph import operators_of
from registry.recipes import PRODUCTS, NotApplicable
from runtimes.device import int8_saturates


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
