"""ONNX models, and models in OpenVINO's format, with OpenVINO, on CPUs and on Intel's GPUs and NPUs.

Rules:
* The precision is always set. By default OpenVINO silently computes in BF16 if the CPU can, which may cost accuracy.
* Threads are never pinned, because every session of every worker would be pinned to the same first cores.
* A session computes up to `lanes` batches at once, each with a stream and an infer request of its own. Streams share
  the weights.
* Kernels are compiled for each new shape at its first batch, and kept.
* A model in OpenVINO's format is two files, its XML graph and its weights, while an artifact is one: a pack, i.e. an
  uncompressed zip of both. Neither holds code.
"""

import importlib
import shutil
import zipfile
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes import intel
from runtimes.device import missing_device, missing_package, runtime_availability
from runtimes.onnx import begins_with
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from schemas.errors import ModelFailed
from schemas.hardware import Hardware

_DEVICES: Final[dict[str, str]] = {
    Hardware.CPU: "CPU",
    Hardware.INTEL_GPU: intel.GPU.name,
    Hardware.INTEL_NPU: intel.NPU.name,
}
"""OpenVINO's name of the device, by hardware type."""
_HINTS: Final = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_UNKNOWN: Final = "No conversion rule found for operations:"
_REST: Final = "f32"
"""Precision of the layers that a quantised model does not quantise."""


class OpenVinoRuntime:
    """Runtime that loads ONNX files, and packs of OpenVINO's format, with OpenVINO."""

    name = "openvino"
    concurrent = True
    hardware = tuple(_DEVICES)

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if OpenVINO is installed and finds the device."""
        return runtime_availability(self.name, hardware, self.hardware, lambda: _missing(hardware))

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an ONNX file or a pack and compile it for the device; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`.
            ModelFailed: OpenVINO rejects the model.
        """
        self.availability(hardware).check()
        try:
            model = read_artifact(artifact)
        except RuntimeError as error:  # OpenVINO has no error type of its own
            raise ModelFailed(_in_words(error)) from error
        compiled = _core().compile_model(model, _DEVICES[hardware], _settings(hardware, options))
        return OpenVinoSession(compiled, options)


def read_artifact(file: Path) -> Any:
    """Return OpenVINO's model of an ONNX file, or of a pack in OpenVINO's format; blocks.

    Raises:
        RuntimeError: OpenVINO rejects it.
    """
    if not is_openvino_pack(file):
        return _core().read_model(file)
    openvino: Any = importlib.import_module("openvino")
    with zipfile.ZipFile(file) as pack:
        graph, weights = pack.read(GRAPH), np.frombuffer(pack.read(_WEIGHTS), np.uint8)
    return _core().read_model(graph, openvino.Tensor(weights))


def _in_words(error: RuntimeError) -> str:
    """Return the reason in an OpenVINO error, without the C++ source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    unknown = next((line.partition(_UNKNOWN)[2] for line in lines if _UNKNOWN in line), "")
    if unknown:
        return f"OpenVINO has no operator {unknown.strip()}, which the model needs"
    return f"OpenVINO cannot read the model: {lines[-1] if lines else 'no details given'}"


def _missing(hardware: str) -> str:
    absent = missing_package("openvino", "OpenVINO", "openvino")
    if absent or hardware == Hardware.CPU or missing_device(hardware) or _DEVICES[hardware] in _present():
        return absent
    return f"OpenVINO does not find this machine's {_DEVICES[hardware]}: its compute driver is missing"


class OpenVinoSession:
    """Compiled model in memory; as many threads compute at once as it has infer requests, and further ones wait."""

    def __init__(self, model: Any, options: LoadOptions) -> None:
        self._inputs = {name: np.dtype(port.element_type.to_dtype()) for port in model.inputs for name in port.names}
        self._outputs = [sorted(port.names) for port in model.outputs]
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(options.lanes):
            self._requests.put(model.create_infer_request())

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the graph does not use are ignored."""
        feed = {name: self._as_taken(name, array) for name, array in inputs.items() if name in self._inputs}
        request = self._requests.get()
        try:
            outputs = request.infer(feed, share_inputs=True)
            return {name: outputs[index] for index, names in enumerate(self._outputs) for name in names}
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """Free the model; call once no thread computes with it."""
        self._requests = SimpleQueue()

    def _as_taken(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        wanted = self._inputs[name]
        is_text = wanted.kind == "S"
        if not is_text and array.dtype != wanted:  # OpenVINO would convert it silently
            raise ValueError(f"input {name!r} must be {wanted}, not {array.dtype}")
        return np.ascontiguousarray(array)


def _settings(hardware: str, options: LoadOptions) -> dict[str, Any]:
    precision = {"INFERENCE_PRECISION_HINT": _HINTS.get(options.precision, _REST)}
    if hardware != Hardware.CPU:
        return precision
    return {
        **precision,
        "NUM_STREAMS": options.lanes,
        "INFERENCE_NUM_THREADS": options.threads * options.lanes,
        "ENABLE_CPU_PINNING": False,
    }


@lru_cache
def _core() -> Any:
    """Return the process's OpenVINO core, untyped, because its types exist only if it is installed."""
    return importlib.import_module("openvino").Core()


@lru_cache
def _present() -> frozenset[str]:
    return frozenset(str(name).partition(".")[0] for name in _core().available_devices)


GRAPH: Final = "openvino/model.xml"
_WEIGHTS: Final = "openvino/model.bin"


def is_openvino_pack(file: Path) -> bool:
    """Return true if an artifact is such a pack."""
    return begins_with(file, GRAPH)


def write_openvino_pack(graph: Path, weights: Path, target: Path) -> None:
    """Write both files into one; the result depends only on their content; blocks."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as pack:
        for name, file in ((GRAPH, graph), (_WEIGHTS, weights)):
            with pack.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry, file.open("rb") as content:
                shutil.copyfileobj(content, entry)


def read_graph(pack: Path) -> bytes:
    """Return the graph's XML."""
    with zipfile.ZipFile(pack) as archive:
        return archive.read(GRAPH)
