"""Stand-ins for vendors' libraries of absent devices: the calls that the runtimes make, as documented.

They compute `scores = x + 1` on the host. `test_vendor_apis.py` compares their signatures with the real ones.
"""

import ctypes
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUT_OF_MEMORY = 2


class CudaDriver:
    """CUDA driver with host memory as device memory; copies run when the stream is synchronized."""

    def __init__(self, memory: int = 1 << 20) -> None:
        self.free = memory
        self.streams = self.retained = 0
        """Streams and context references that were not released."""
        self.allocated: dict[int, ctypes.Array[ctypes.c_uint8]] = {}
        self.pending: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return lambda *_arguments: 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.retained -= 1
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        if not self.free:
            return OUT_OF_MEMORY
        self.streams += 1
        stream._obj.value = 7
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        self.streams -= 1
        return 0

    def _allocate(self, size: int) -> int:
        if size > self.free:
            return 0
        self.free -= size
        memory = (ctypes.c_uint8 * size)()
        self.allocated[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def cuMemAlloc_v2(self, pointer: Any, size: ctypes.c_size_t) -> int:
        pointer._obj.value = self._allocate(size.value)
        return 0 if pointer._obj.value else OUT_OF_MEMORY

    cuMemAllocHost_v2 = cuMemAlloc_v2

    def cuMemFree_v2(self, pointer: Any) -> int:
        self.free += len(self.allocated.pop(pointer.value))
        return 0

    cuMemFreeHost = cuMemFree_v2

    def _copy(self, target: Any, source: Any, size: ctypes.c_size_t, stream: ctypes.c_void_p) -> int:
        assert stream.value == 7
        self.pending.append(lambda: ctypes.memmove(target.value, source.value, size.value))
        return 0

    cuMemcpyHtoDAsync_v2 = cuMemcpyDtoHAsync_v2 = _copy

    def cuStreamSynchronize(self, stream: Any) -> int:
        for act in self.pending:
            act()
        self.pending.clear()
        return 0


# -- TensorRT ----------------------------------------------------------------------------------------------------------
class TensorIOMode(IntEnum):
    INPUT, OUTPUT = 1, 2


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Sequence[int], ...]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:  # noqa: A002
        self.shapes[input] = tuple(min), tuple(opt), tuple(max)


class _Context:
    def __init__(self, engine: "_Engine") -> None:
        self.engine = engine
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        least, _, most = self.engine.profile[name]
        self.shape = tuple(shape)
        return len(shape) == len(least) and all(
            low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
        )

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def execute_async_v3(self, stream_handle: int) -> bool:
        count = int(np.prod(self.shape))

        def compute() -> None:
            x, scores = (self._view(name, count) for name in ("x", "scores"))
            scores[:] = x + 1

        self.engine.driver.pending.append(compute)
        return stream_handle == 7

    def _view(self, name: str, count: int) -> NDArray[np.float32]:
        memory: Any = (ctypes.c_float * count).from_address(self.addresses[name])
        return np.frombuffer(memory, np.float32)


class _Engine:
    num_io_tensors = 2

    def __init__(self, driver: CudaDriver, serialized: bytes) -> None:
        self.driver = driver
        self.profile: dict[str, list[list[int]]] = json.loads(serialized)

    def get_tensor_name(self, index: int) -> str:
        return ("x", "scores")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def create_execution_context(self) -> _Context | None:
        return _Context(self) if self.driver.free > len(b"a context") else None


def tensorrt(driver: CudaDriver, version: str = "11.4.0") -> Any:
    """Return a module `tensorrt`; its `built` counts the engines."""
    module = SimpleNamespace(__version__=version, built=0, TensorIOMode=TensorIOMode, nptype=np.dtype)

    class Logger:
        WARNING = 2

        def __init__(self, min_severity: int) -> None:
            assert min_severity == self.WARNING

    class Config:
        def add_optimization_profile(self, profile: _Profile) -> int:
            self.profile = profile
            return 0

    class Network:
        num_inputs = 1

        def get_input(self, index: int) -> Any:
            return [SimpleNamespace(name="x", shape=(-1, 3))][index]

    class Builder:
        def __init__(self, logger: Logger) -> None:
            del logger

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << 1, "strongly typed"
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> _Profile:
            return _Profile()

        def build_serialized_network(self, network: Any, config: Config) -> bytearray:
            module.built += 1
            return bytearray(json.dumps(config.profile.shapes).encode())

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Logger) -> None:
            del network, logger

        def parse_from_file(self, model: str) -> bool:
            return Path(model).read_bytes() != b"garbage"

        def get_error(self, index: int) -> str:
            return "no model"

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            del logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> _Engine | None:
            return _Engine(driver, serialized_engine) if serialized_engine else None

    module.Logger, module.Builder, module.OnnxParser, module.Runtime = Logger, Builder, OnnxParser, Runtime
    module.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    return module


# -- torch -------------------------------------------------------------------------------------------------------------
class Tensor:
    """Tensor with a few of torch's methods; `device` is only a label."""

    def __init__(self, array: NDArray[Any], device: str = "cpu", *, pinned: bool = False) -> None:
        self.array, self.device, self.pinned = array, device, pinned
        self.shape, self.dtype = array.shape, array.dtype

    def pin_memory(self) -> "Tensor":
        return Tensor(self.array.copy(), pinned=True)

    def to(self, device: str, *, non_blocking: bool = False) -> "Tensor":
        assert self.pinned or not non_blocking
        return Tensor(self.array.copy(), device)

    def copy_(self, source: "Tensor", *, non_blocking: bool = False) -> "Tensor":
        assert not non_blocking or self.pinned or source.pinned
        self.array[...] = source.array
        return self

    def numpy(self) -> NDArray[Any]:
        assert self.device == "cpu"
        return self.array

    def __add__(self, number: int) -> "Tensor":
        return Tensor(self.array + number, self.device)


class Torch:
    """Module with a few of torch's functions; `replays` counts the replays of CUDA graphs."""

    def __init__(self, *, capturable: bool = True) -> None:
        self.capturable = capturable
        self.captures = self.replays = self.emptied = 0
        self.jit = SimpleNamespace(load=self._load, save=self._save)
        self.cuda = SimpleNamespace(
            Stream=lambda: SimpleNamespace(synchronize=lambda: None),
            stream=self._context,
            CUDAGraph=lambda: SimpleNamespace(replay=self._replay),
            graph=self._graph,
            empty_cache=self._empty_cache,
        )
        self.recompute: Callable[[], None] = lambda: None

    def from_numpy(self, array: NDArray[Any]) -> Tensor:
        assert array.flags.writeable
        return Tensor(array)

    def empty(self, size: Sequence[int], *, dtype: Any, pin_memory: bool = False) -> Tensor:
        return Tensor(np.empty(size, dtype), pinned=pin_memory)

    @contextmanager
    def _context(self, *_arguments: Any) -> Generator[None]:
        yield

    inference_mode = no_grad = _context

    @contextmanager
    def _graph(self, cuda_graph: Any, *, stream: Any) -> Generator[None]:
        if not self.capturable:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1
        yield

    def _replay(self) -> None:
        self.replays += 1
        self.recompute()

    def _empty_cache(self) -> None:
        self.emptied += 1

    def _save(self, module: Any, file: str, *, _extra_files: dict[str, str]) -> None:
        Path(file).write_text(json.dumps(_extra_files))

    def _load(self, file: str, *, _extra_files: dict[str, str]) -> Callable[[Tensor], Tensor]:
        _extra_files |= json.loads(Path(file).read_text())
        return lambda x: x + 1
