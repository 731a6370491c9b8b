"""Torch's exported programs, compiled ahead of time by AOTInductor (`torch-aot`) into a library that loads fast.

The archive written by `torch._inductor.aoti_compile_and_package` holds native code for the device that it was compiled
on, so it runs only on this model of device. It has no names of inputs and outputs; the registry writes them into the
archive (`NAMES_ENTRY`), with the name of the device.

A library stays mapped until the process ends, and the weights are part of it. So a variant of this runtime that a
worker has unloaded still takes its memory, and is counted as in use.
"""

import ctypes
import importlib
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.device import device_name
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from runtimes.torch.cuda_runner import CudaRunner, as_writable, output_values
from runtimes.torch.program import TorchCudaSession, keep_threads, prepare_torch, torch_availability
from schemas.errors import OperatorError
from schemas.hardware import Hardware

_Run: TypeAlias = Callable[[Sequence[Any]], list[Any]]

NAMES_ENTRY: Final = "extra/infaas-names.json"


class CompiledInput(msgspec.Struct, frozen=True):
    """Input of a compiled program. The program checks no shapes: it would read beyond the end of a tensor."""

    name: str
    dtype: str
    shape: list[int]
    """Sizes; -1 means variable."""

    def checked(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array; raises ValueError if its shape or type does not fit."""
        fits = len(array.shape) == len(self.shape)
        fits = fits and all(want in (-1, size) for want, size in zip(self.shape, array.shape, strict=True))
        if not fits or array.dtype != np.dtype(self.dtype):
            raise ValueError(
                f"input {self.name!r} must be {self.dtype} {self.shape}, not {array.dtype} {list(array.shape)}"
            )
        return array


class CompiledNames(msgspec.Struct, frozen=True, kw_only=True):
    """Names and devices that a compiled program does not contain."""

    positional: list[CompiledInput]
    named: list[CompiledInput]
    outputs: list[str]
    device: str
    """Name of the device that it was compiled on."""

    def checked(self, inputs: Tensors) -> list[NDArray[Any]]:
        """Return the inputs in the program's order; raises ValueError if one does not fit its compiled shape."""
        return [given.checked(inputs[given.name]) for given in (*self.positional, *self.named)]


class TorchAotRuntime:
    """Runtime that loads programs compiled by AOTInductor."""

    name = "torch-aot"
    concurrent = True
    hardware: tuple[str, ...] = (Hardware.CPU, Hardware.CUDA)

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if torch is installed, and the device is present; imports nothing."""
        return torch_availability(self.name, hardware, self.hardware)

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load a compiled program; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`, or the program was compiled on another device.
        """
        self.availability(hardware).check()
        names = read_names(artifact)
        if names.device != device_name(hardware):
            raise OperatorError(
                f"it was compiled for {names.device}, but this is {device_name(hardware)}: register it --again here"
            )
        torch = prepare_torch(options.threads)
        if hardware == Hardware.CUDA:
            named = [given.name for given in names.named]
            runner = CudaRunner(torch, _load(artifact, options), len(names.positional), named, graphs=False)
            return TorchCudaSession(runner, names.checked, names.outputs)
        library = AotLibrary.load(artifact, options.lanes)
        run = library.run if library is not None else _run_by_loader(_load(artifact, options), names)
        return TorchAotSession(torch, run, names, options.threads)


class TorchAotSession:
    """Compiled program in memory; up to `lanes` threads compute at once, and further ones wait."""

    def __init__(self, torch: Any, run: _Run, names: CompiledNames, threads: int) -> None:
        self._torch = torch
        self._threads = threads
        self._run: _Run | None = run
        self._names = names

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the program does not take are ignored."""
        run = self._run
        if run is None:
            raise RuntimeError("the session is closed")
        keep_threads(self._torch, self._threads)
        with self._torch.inference_mode():
            tensors = [self._torch.from_numpy(as_writable(array)) for array in self._names.checked(inputs)]
            return {name: value.numpy() for name, value in zip(self._names.outputs, run(tensors), strict=True)}

    def close(self) -> None:
        """Free the program; call once no thread computes with it."""
        self._run = None


def _load(artifact: Path, options: LoadOptions) -> Any:
    inductor: Any = importlib.import_module("torch._inductor")
    with artifact.open("rb") as file:  # as a path it would have to end in .pt2
        return inductor.aoti_load_package(file, num_runners=options.lanes)


def _run_by_loader(model: Any, names: CompiledNames) -> _Run:
    """Return a function that runs a program with torch's loader, which computes one batch at a time."""

    def run(tensors: Sequence[Any]) -> list[Any]:
        positional, named = tensors[: len(names.positional)], tensors[len(names.positional) :]
        by_name = zip((given.name for given in names.named), named, strict=True)
        return output_values(model(*positional, **dict(by_name)))

    return run


def write_names(archive: Path, names: CompiledNames) -> None:
    """Add the names to a compiled program's archive."""
    with zipfile.ZipFile(archive, "a") as content:
        root = content.namelist()[0].partition("/")[0]
        content.writestr(f"{root}/{NAMES_ENTRY}", msgspec.json.encode(names))


def read_names(archive: Path) -> CompiledNames:
    """Read the names that `write_names` wrote."""
    with zipfile.ZipFile(archive) as content:
        entry = next(name for name in content.namelist() if name.endswith(NAMES_ENTRY))
        return msgspec.json.decode(content.read(entry), type=CompiledNames)


_FOLDER: Final = "/data/aotinductor/"
_METADATA: Final = "_metadata.json"
_POINTER: Final = ctypes.c_void_p


class AotLibrary:
    """Models of a library in memory: each computes for one thread at a time, and further threads wait."""

    def __init__(self, library: Any, models: int) -> None:
        """Create `models` models; blocks.

        Raises:
            RuntimeError: the library refuses; the reason is on standard error.
        """
        self._library = library
        self._tensors: Any = importlib.import_module("torch._C._aoti")
        self._container = _POINTER()
        create = library.AOTInductorModelContainerCreateWithDevice
        _check(create(ctypes.byref(self._container), ctypes.c_size_t(models), b"cpu", None), "be loaded")
        weakref.finalize(self, library.AOTInductorModelContainerDelete, self._container)
        self._inputs = self._number("Inputs")
        self._outputs = self._number("Outputs")

    @classmethod
    def load(cls, archive: Path, models: int) -> Self | None:
        """Load the library of an archive. Returns None if only torch's loader can run it, e.g. for custom operators."""
        with zipfile.ZipFile(archive) as content, tempfile.TemporaryDirectory(prefix="infaas-aot-") as folder:
            names = [name for name in content.namelist() if _FOLDER in name]
            libraries = [name for name in names if name.endswith(".so")]
            needs = [name for name in names if name.endswith(".json") and not name.endswith(_METADATA)]
            if len(libraries) != 1 or needs:
                return None
            return cls(ctypes.CDLL(content.extract(libraries[0], folder)), models)  # it stays mapped after deletion

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Compute a batch. The tensors must fit the compiled shapes and types: the library does not check them.

        Raises:
            ValueError: the number of tensors is wrong.
            RuntimeError: the computation failed; the reason is on standard error.
        """
        if len(tensors) != self._inputs:
            raise ValueError(f"the compiled program takes {self._inputs} tensors, not {len(tensors)}")
        handles = self._tensors.unsafe_alloc_void_ptrs_from_tensors([*tensors])
        given = (_address(handle, None) for handle in handles)
        inputs, outputs = (_POINTER * self._inputs)(*given), (_POINTER * self._outputs)()
        run = self._library.AOTInductorModelContainerRun
        failed = run(
            self._container, inputs, ctypes.c_size_t(self._inputs), outputs, ctypes.c_size_t(self._outputs), None, None
        )
        _check(failed, "compute")
        computed = [_new_capsule(output, None, None) for output in outputs]
        return self._tensors.alloc_tensors_by_stealing_from_void_ptrs(computed)

    def _number(self, of: str) -> int:
        number = ctypes.c_size_t()
        count = getattr(self._library, f"AOTInductorModelContainerGetNum{of}")
        _check(count(self._container, ctypes.byref(number)), f"count its {of.lower()}")
        return number.value


def _check(failed: int, what: str) -> None:
    if failed:
        raise RuntimeError(f"the compiled program could not {what}; see its standard error")


_address: Final = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
_new_capsule: Final = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [_POINTER, ctypes.c_char_p, _POINTER]
