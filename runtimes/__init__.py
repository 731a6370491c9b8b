"""The runtimes, which execute variants: one file each, behind the two Protocols of `protocol.py`.

Below both the registry, which profiles variants with a runtime, and the workers, which serve with it.

Reading order: protocol (what a runtime is) -> catalog (which there are) -> cuda, neuron, intel, device (what they run
on) -> availability (what is missing) -> engines (TensorRT's files), onnx, onnx_pack (of more than 2 GB), openvino,
openvino_pack (its own format) -> torch_cuda (torch on a GPU), freed_memory, size_expression, exported_graph,
exported_archive (programs made data), pytorch, aot_library, torch_aot, torch_neuron -> cuda_buffers (a GPU without
torch), tensorrt -> confidence, composite (several as one) -> cascade, chain -> padding (inputs of different lengths in
a batch) -> processing (texts and images around a model).
"""

import os
import sys
from typing import Any, cast

# Nobody asked them to, but onnxruntime and OpenVINO report to their makers when they are imported: the one unless this
# says otherwise, the other, and NNCF, unless the package that does it is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", cast(Any, None))
