"""Catalog of the runtimes, by name. A new runtime is one file and one line here."""

import importlib
from typing import Final

from runtimes.composite import (
    CASCADE,
    CHAIN,
    CascadeDocument,
    ChainDocument,
    ChainSession,
    CompositeRuntime,
)
from runtimes.decoder.runtime import OnnxDecoderRuntime
from runtimes.generative_cascade import join_cascade
from runtimes.llama_cpp import LlamaCppRuntime
from runtimes.onnx import OnnxRuntime
from runtimes.openvino import OpenVinoRuntime
from runtimes.protocol import Runtime
from runtimes.tensorrt import TensorRtRuntime
from runtimes.torch.aot import TorchAotRuntime
from runtimes.torch.inferentia import TorchNeuronRuntime
from runtimes.torch.program import TorchRuntime
from schemas.errors import OperatorError
from schemas.hardware import Hardware

_PROVIDERS: Final[dict[str, str]] = {Hardware.CPU: "CPUExecutionProvider", Hardware.CUDA: "CUDAExecutionProvider"}
_GENERATIVE: Final[tuple[Runtime, ...]] = (LlamaCppRuntime(), OnnxDecoderRuntime(_PROVIDERS))
_SINGLE: Final[tuple[Runtime, ...]] = (
    OnnxRuntime("onnx", _PROVIDERS, concurrent=True),
    OnnxRuntime("onnx-tensorrt", {Hardware.CUDA: "TensorrtExecutionProvider"}, concurrent=False),
    OpenVinoRuntime(),
    TorchRuntime("torch-eager", compiled=False),
    TorchRuntime("torch-compile", compiled=True),
    TorchAotRuntime(),
    TensorRtRuntime(),
    TorchNeuronRuntime("torch-neuron", "torch_neuron", "Inf1"),
    TorchNeuronRuntime("torch-neuronx", "torch_neuronx", "Inf2"),
    *_GENERATIVE,
)
_CASCADE: Final = CompositeRuntime(CASCADE, CascadeDocument, join_cascade, _SINGLE)
_CHAIN: Final = CompositeRuntime(CHAIN, ChainDocument, ChainSession, (*_SINGLE, _CASCADE))
_RUNTIMES: Final[tuple[Runtime, ...]] = (*_SINGLE, _CASCADE, _CHAIN)
_PACKAGES: Final = {
    "onnx": "onnxruntime",
    "onnx-tensorrt": "onnxruntime",
    "openvino": "openvino",
    "torch-eager": "torch",
    "torch-compile": "torch",
    "torch-aot": "torch",
    "tensorrt": "tensorrt",
    "torch-neuron": "torch_neuron",
    "torch-neuronx": "torch_neuronx",
    "llama.cpp": "xllamacpp",
    "onnx-decoder": "onnxruntime",
}


def all_runtimes() -> tuple[Runtime, ...]:
    """Return every runtime that this version knows, available here or not."""
    return _RUNTIMES


def available_runtimes(hardware: str) -> tuple[str, ...]:
    """Return the names of the runtimes that can serve `hardware` in this process."""
    return tuple(runtime.name for runtime in _RUNTIMES if runtime.availability(hardware).available)


def is_concurrent(name: str) -> bool:
    """Return true if threads can compute with one session of the runtime at once; false for an unknown runtime."""
    return any(runtime.name == name and runtime.concurrent for runtime in _RUNTIMES)


def is_generative(name: str) -> bool:
    """Return true if the sessions of a runtime are generative; those of a composite may be if its stages are."""
    return any(runtime.name == name for runtime in _GENERATIVE)


def import_package(name: str) -> None:
    """Import the package of a runtime, so that the first load does not measure the import."""
    if name in _PACKAGES:  # composites use the runtimes of their stages
        importlib.import_module(_PACKAGES[name])


def find_runtime(name: str) -> Runtime:
    """Return the runtime of this name.

    Raises:
        OperatorError: there is none; the message lists the known ones.
    """
    for runtime in _RUNTIMES:
        if runtime.name == name:
            return runtime
    raise OperatorError(f"unknown runtime {name!r}; known are {', '.join(r.name for r in _RUNTIMES)}")
