"""Runtimes, which execute variants: one file each, behind the two Protocols of `protocol.py`.

The registry profiles variants with them, and the workers serve with them.

Reading order: protocol (interface of a runtime) -> catalog (list of the runtimes) -> cuda, neuron, intel, device
(devices) -> availability (missing packages and devices) -> engines (TensorRT's files), onnx, onnx_pack (models of more
than 2 GB), openvino, openvino_pack (its own format) -> torch_cuda (torch on a GPU), freed_memory, size_expression,
exported_graph, exported_archive (untrusted programs made safe), pytorch, aot_library, torch_aot, torch_neuron ->
cuda_buffers (a GPU without torch), tensorrt -> confidence, composite (several variants as one) -> cascade, chain ->
padding (inputs of different lengths in a batch) -> processing (texts and images around a model).
"""

import os
import sys
from typing import Any, cast

# On import, onnxruntime and OpenVINO send telemetry to their makers by default. The variable turns off the one; the
# other, and NNCF, send none if their telemetry package is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", cast(Any, None))
