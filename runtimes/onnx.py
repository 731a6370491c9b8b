"""ONNX models with onnxruntime, on CPUs, CUDA and TensorRT.

One class, two runtimes: `onnx` uses onnxruntime's own kernels on a CPU or a CUDA device, `onnx-tensorrt` passes the
graph to TensorRT. Rules:
* Loading fails if a provider cannot start. By default onnxruntime only logs this and computes on the CPU, so a GPU
  variant would run at a CPU's speed.
* Threads do not spin while they wait, because a worker hosts more sessions than it has cores.
* Threads share a session: several may call `Run` at once. TensorRT's provider admits one at a time.
* BYTES tensors are `bytes` outside and `str` inside onnxruntime; this module converts them.
* A model of more than 2 GB is a pack: an uncompressed zip of its graph and its weights. Protobuf is limited to 2 GB, so
  the weights of such a model are in files beside its graph, while an artifact is one file. The offset of the weights in
  the pack is known, so onnxruntime maps them from there: nothing is unpacked or copied.
"""

import importlib
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.device import runtime_availability
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from runtimes.tensorrt import ENGINES_FOLDER
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.tensors import bytes_array

_ERRORS_ONLY: Final = 3
_NOTHING: Final = 4
"""Log level of CPU sessions. Errors are raised as well; a lower level would also log each wrong input, in colour."""
_EXTENSIONS: Final = "ai.onnx.contrib"
"""Domain of the operators of onnxruntime-extensions; an error about unknown operators names it."""
_WEIGHTS_FOLDER: Final = "session.model_external_initializers_file_folder_path"
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"

Provider = tuple[str, dict[str, str]]


class OnnxRuntime:
    """Runtime that loads ONNX files with onnxruntime; `providers` gives the execution provider by hardware type."""

    def __init__(self, name: str, providers: dict[str, str], *, concurrent: bool) -> None:
        self.name = name
        self.hardware = tuple(providers)
        self.concurrent = concurrent
        self._providers = providers

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if onnxruntime has the provider, and the device is present."""
        return runtime_availability(self.name, hardware, self.hardware, lambda: self._missing_provider(hardware))

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an ONNX file; blocks. Raises as `open` does."""
        session = self.open(artifact, hardware, options)
        on_cpu = session.get_providers()[0] == _CPU
        return OnnxSession(session) if on_cpu else BoundOnnxSession(session, "cuda")

    def open(self, artifact: Path, hardware: str, options: LoadOptions) -> Any:
        """Return onnxruntime's own session of a file, i.e. read and optimise its graph; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`, or its provider did not start.
        """
        self.availability(hardware).check()
        import onnxruntime

        wanted = self._providers[hardware]
        if wanted != _CPU:
            _find_cuda_libraries()
        model: Path | bytes = artifact
        chosen, providers = _session_options(options, wanted), _provider_list(wanted, artifact, options)
        if is_pack(artifact):
            model = read_pack(artifact)
            chosen.add_session_config_entry(_WEIGHTS_FOLDER, str(artifact.parent))
        try:
            session = onnxruntime.InferenceSession(model, chosen, providers=providers)
        except Exception as error:
            if _EXTENSIONS not in str(error):
                raise
            _register_extensions(chosen)
            session = onnxruntime.InferenceSession(model, chosen, providers=providers)
        if session.get_providers()[0] != wanted:
            raise OperatorError(f"onnxruntime could not start {wanted}; its own log says which library is missing")
        return session

    def _missing_provider(self, hardware: str) -> str:
        provider, extra = self._providers[hardware], "cpu" if hardware == Hardware.CPU else "gpu"
        try:
            import onnxruntime
        except ImportError as error:
            return f"onnxruntime cannot be imported ({error}): pip install 'infaas[{extra}]'"
        there = provider in onnxruntime.get_available_providers()
        return "" if there else f"this onnxruntime has no {provider}: install the gpu extra instead of cpu"


class OnnxSession:
    """ONNX graph in memory; several threads may call `infer` at once."""

    def __init__(self, session: Any) -> None:
        self._session: Any = session
        self._inputs = frozenset(node.name for node in session.get_inputs())
        self._outputs = [node.name for node in session.get_outputs()]

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the graph does not use are ignored."""
        feed = {name: _to_onnx(array) for name, array in inputs.items() if name in self._inputs}
        outputs: list[NDArray[Any]] = self._session.run(self._outputs, feed)
        return {name: _from_onnx(array) for name, array in zip(self._outputs, outputs, strict=True)}

    def close(self) -> None:
        """Free the session; call once no thread computes with it."""
        self._session = None


class BoundOnnxSession(OnnxSession):
    """ONNX graph on a device with bound inputs and outputs: one copy of each, and one synchronisation."""

    def __init__(self, session: Any, device: str) -> None:
        super().__init__(session)
        self._device = device

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; text inputs, which devices cannot hold, are computed without binding."""
        if any(array.dtype.kind == "O" for array in inputs.values()):
            return super().infer(inputs)
        import onnxruntime

        binding = self._session.io_binding()
        for name, array in inputs.items():
            if name in self._inputs:
                value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)
                binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self._device, 0)
        self._session.run_with_iobinding(binding)
        return {name: value.numpy() for name, value in zip(self._outputs, binding.get_outputs(), strict=True)}


def _register_extensions(chosen: Any) -> None:
    """Register the operators of onnxruntime-extensions, for processing that was exported into the graph."""
    try:
        extensions = importlib.import_module("onnxruntime_extensions")
    except ImportError as error:
        raise OperatorError(
            f"the model has operators of onnxruntime-extensions, which cannot be imported ({error}): "
            "pip install 'infaas[extensions]'"
        ) from error
    chosen.register_custom_ops_library(extensions.get_library_path())


def _session_options(options: LoadOptions, provider: str) -> Any:
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.log_severity_level = _NOTHING if provider == _CPU else _ERRORS_ONLY
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def _provider_list(wanted: str, artifact: Path, options: LoadOptions) -> list[Provider]:
    """Return the wanted provider, followed by fallbacks for operators that it does not support."""
    if wanted == _CPU:
        return [(_CPU, {})]
    on_cuda: list[Provider] = [(_CUDA, {"arena_extend_strategy": "kSameAsRequested"}), (_CPU, {})]
    return [(_TENSORRT, _tensorrt_options(artifact, options)), *on_cuda] if wanted == _TENSORRT else on_cuda


def _tensorrt_options(artifact: Path, options: LoadOptions) -> dict[str, str]:
    """Return options that cache engines beside the artifact: a build takes minutes, a load seconds."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(artifact.parent / ENGINES_FOLDER),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(artifact.parent / ENGINES_FOLDER),
        "trt_engine_cache_prefix": f"{artifact.name[:16]}-{options.precision}-b{options.max_batch}",
        "trt_fp16_enable": "1" if options.precision == "fp16" else "0",
    }


def _find_cuda_libraries() -> None:
    """Let onnxruntime find CUDA and cuDNN in the `nvidia-*` wheels, which are on no library path."""
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


def _to_onnx(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return array
    text = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return np.array(text, dtype=object).reshape(array.shape)


def _from_onnx(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return array
    return bytes_array(array.ravel().tolist()).reshape(array.shape)


_GRAPH: Final = "model.onnx"
_WEIGHTS: Final = "weights"
_ZIP: Final = b"PK\x03\x04"
_HEADER: Final = 30
_NAME_AT: Final = 26
_ALIGNMENT: Final = 4096
_CHUNK: Final = 1 << 20


def is_pack(file: Path) -> bool:
    """Return true if an artifact is a pack; torch's programs are zips as well, but begin with another entry."""
    return begins_with(file, _WEIGHTS)


def begins_with(file: Path, entry: str) -> bool:
    """Return true if a file is a zip whose first entry has a name that begins with `entry`."""
    with file.open("rb") as content:
        start = content.read(_HEADER + len(entry))
    return start.startswith(_ZIP) and start[_HEADER:] == entry.encode()


def write_pack(model: Any, folder: Path, target: Path) -> None:
    """Write a pack of a graph whose weights are in files in `folder`; blocks, and changes the graph."""
    tensors = [tensor for tensor in _tensors(model) if tensor.external_data]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as pack:
        with pack.open(_WEIGHTS, "w", force_zip64=True) as weights:
            at = 0
            for tensor in tensors:
                at += _pad(weights, at)
                at += _append(weights, tensor, folder, at)
        pack.writestr(_GRAPH, model.SerializeToString())


def read_pack(pack: Path) -> bytes:
    """Return the graph of a pack; its weights refer to offsets in the pack, relative to the pack's folder."""
    import onnx

    with zipfile.ZipFile(pack) as archive:
        model: Any = onnx.load_model_from_string(archive.read(_GRAPH))
        begin = _content_at(pack, archive.getinfo(_WEIGHTS).header_offset)
    for tensor in _tensors(model):
        if tensor.external_data:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            _locate(tensor, pack.name, begin + int(entries["offset"]), int(entries["length"]))
    return model.SerializeToString()


def _tensors(model: Any) -> list[Any]:
    return list(model.graph.initializer)


def _append(weights: Any, tensor: Any, folder: Path, at: int) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    source, offset = folder / entries["location"], int(entries.get("offset", 0))
    length = int(entries.get("length") or source.stat().st_size - offset)
    with source.open("rb") as content:
        content.seek(offset)
        left = length
        while left:
            chunk = content.read(min(_CHUNK, left))
            if not chunk:
                raise EOFError(f"{source.name} ends before the weights do")
            weights.write(chunk)
            left -= len(chunk)
    _locate(tensor, _WEIGHTS, at, length)
    return length


def _pad(weights: Any, at: int) -> int:
    gap = -at % _ALIGNMENT
    weights.write(bytes(gap))
    return gap


def _locate(tensor: Any, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def _content_at(pack: Path, header_at: int) -> int:
    """Return the offset of an entry's content, after its header, name and extra fields."""
    with pack.open("rb") as content:
        content.seek(header_at)
        header = content.read(_HEADER)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (_NAME_AT, _NAME_AT + 2))
    return header_at + _HEADER + name + extra
