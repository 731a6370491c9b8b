"""Runtimes, which execute variants, behind the two Protocols of `protocol.py`; one file for each.

The registry profiles variants with them, and the workers serve with them.

Reading order: protocol (interface of a runtime) -> catalog (list of the runtimes) -> cuda, neuron, intel, device
(devices, and missing packages) -> tensorrt, onnx, openvino, torch (runtimes) -> chat, answer_progress, answer_outputs,
answer_session (texts and answers) -> gguf_header, llama_cpp, decoder (runtimes of language models) -> composite
(several variants as one), generative_cascade (a small language model before a large one) -> padding (inputs of
different lengths in a batch) -> processing (texts and images around a model).
"""

import os
import sys
from typing import Any, cast

# On import, onnxruntime and OpenVINO send telemetry to their makers by default. The variable turns off the one; the
# other, and NNCF, send none if their telemetry package is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", cast(Any, None))
