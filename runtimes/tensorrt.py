"""ONNX models as native TensorRT engines, with streams and pinned buffers managed here.

An engine is native code for one model of GPU and one version of TensorRT, and takes minutes to build. The artifact is
therefore the ONNX file in its precision (networks are strongly typed: FP16 weights, or INT8 between quantisers). The
engine is cached beside it, under the names of both. It takes batches of 1 to the variant's largest, and lengths up to a
limit if another dimension is variable.

A session has one context and one stream, so threads take turns. Written from the documentation of TensorRT 10 and 11,
and tested only against a stand-in.
"""

import importlib
import re
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.cuda import CudaStream, TensorBuffer, check_alive
from runtimes.device import device_name, missing_package, runtime_availability
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from schemas.errors import OperatorError
from schemas.hardware import Hardware

ENGINES_FOLDER: Final = "tensorrt"
"""Folder of engines beside the artifacts; names in it begin with the first 16 characters of the artifact's name."""
_TYPICAL_LENGTH: Final = 64
_LONGEST: Final = 512
"""Sizes of a variable dimension besides the batch: the one that kernels are optimised for, and the largest."""


class TensorRtRuntime:
    """Runtime that builds and loads engines."""

    name = "tensorrt"
    concurrent = False
    hardware: tuple[str, ...] = (Hardware.CUDA,)

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if TensorRT is installed and the device is present; imports nothing."""
        return runtime_availability(
            self.name, hardware, self.hardware, lambda: missing_package("tensorrt", "TensorRT", "gpu")
        )

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load the engine from the cache, or build it, which takes minutes; blocks.

        Raises:
            OperatorError: the runtime is not available, or TensorRT cannot make an engine of this model.
        """
        self.availability(hardware).check()
        trt: Any = importlib.import_module("tensorrt")
        logger = trt.Logger(trt.Logger.WARNING)
        cached = engine_file(artifact, device_name(hardware), trt.__version__, options.max_batch)
        if not cached.exists():
            _write(cached, build_engine(trt, logger, artifact, options.max_batch))
        engine = trt.Runtime(logger).deserialize_cuda_engine(cached.read_bytes())
        if engine is None:
            raise OperatorError(f"TensorRT cannot read {cached}: delete it, so that it is built again")
        return TensorRtSession(trt, engine)


class TensorRtSession:
    """Engine on the device; threads take turns."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self._lock = threading.Lock()
        stream = CudaStream()
        self._stream: CudaStream | None = stream
        self._engine: Any = engine
        self._context: Any = engine.create_execution_context()
        if self._context is None:
            stream.close()
            raise MemoryError("TensorRT: out of memory for an execution context")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        self._buffers = {name: TensorBuffer(stream) for name in names}

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the engine does not take are ignored."""
        with self._lock:
            stream = check_alive(self._stream)
            stream.enter()
            for name in self._inputs:
                self._take(name, inputs[name])
            shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}
            for name, shape in shapes.items():
                buffer = self._buffers[name]
                buffer.reserve(max(int(np.prod(shape, dtype=np.int64)), 1) * self._dtypes[name].itemsize)
                self._context.set_tensor_address(name, buffer.address)
            if not self._context.execute_async_v3(stream.handle):
                raise RuntimeError("TensorRT could not compute the batch; see its log")
            views = {name: self._buffers[name].download(shape, self._dtypes[name]) for name, shape in shapes.items()}
            stream.synchronize()
            return {name: view.copy() for name, view in views.items()}

    def close(self) -> None:
        """Free the engine and its memory on the device."""
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return
            stream.enter()
            for buffer in self._buffers.values():
                buffer.close()
            self._context = self._engine = None
            stream.close()

    def _take(self, name: str, array: NDArray[Any]) -> None:
        if array.dtype != self._dtypes[name]:
            raise ValueError(f"input {name!r} must be {self._dtypes[name]}, not {array.dtype}")
        if not self._context.set_input_shape(name, array.shape):
            raise ValueError(f"input {name!r}: the engine was not built for the shape {list(array.shape)}")
        self._buffers[name].upload(array)
        self._context.set_tensor_address(name, self._buffers[name].address)


def build_engine(trt: Any, logger: Any, model: Path, max_batch: int) -> bytes:
    """Build an engine for the device that this process uses; takes minutes.

    Raises:
        OperatorError: TensorRT cannot read the model, or make an engine of it.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise OperatorError(f"TensorRT cannot read the model: {reasons}")
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        profile.set_shape(tensor.name, *profile_shapes(tuple(tensor.shape), max_batch))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise OperatorError("TensorRT cannot build an engine of the model; see its log")
    return bytes(serialized)


def profile_shapes(shape: tuple[int, ...], max_batch: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the smallest, the typical and the largest shape of an input; its first dimension is the batch."""
    least = (1, *(1 if size < 0 else size for size in shape[1:]))
    typical = (max_batch, *(_TYPICAL_LENGTH if size < 0 else size for size in shape[1:]))
    most = (max_batch, *(_LONGEST if size < 0 else size for size in shape[1:]))
    return least, typical, most


def engine_file(artifact: Path, device: str, version: str, max_batch: int) -> Path:
    """Return the file that caches the artifact's engine for this device and version of TensorRT."""
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", device)
    return artifact.parent / ENGINES_FOLDER / f"{artifact.name[:16]}-b{max_batch}-{gpu}-{version}.engine"


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(file)
