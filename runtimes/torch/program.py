"""Torch's exported programs, executed as they are (`torch-eager`) or compiled by inductor (`torch-compile`).

Rules:
* Torch is imported when a program is loaded, not before: the import takes seconds and 200 MB.
* Only archives written by `exported_archive.make_safe` are loaded, because `torch.export.load` executes code in the
  file.
* A program has no names for its outputs; the registry writes them into the archive (`OUTPUTS_ENTRY`).
* Threads share a program. A compiled one may be compiled again at any batch, which is not safe during another batch, so
  a worker computes one batch of it at a time.
* Torch frees each intermediate tensor of a batch; this memory is kept for the next batch.
* Torch keeps the thread count per computing thread. Until a thread's count is read or set, the libraries below torch
  use all cores in it. So each session sets the count in every thread that computes.
"""

import ctypes
import importlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.device import missing_package, runtime_availability
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from runtimes.torch.cuda_runner import CudaRunner, as_writable, output_values
from runtimes.torch.exported_archive import OUTPUTS_FILE, check_safe
from schemas.hardware import Hardware

_FREE: Final = {"cpp_wrapper": True}
"""Options that let a compiled program release the interpreter's lock: its kernels are called from C++, so a worker can
read and answer during a batch. Kernels called from Python hold the lock."""
_ON: Final[tuple[str, ...]] = (Hardware.CPU, Hardware.CUDA)


class TorchRuntime:
    """Runtime that loads exported programs with torch, and with `compiled` compiles them for any batch size."""

    def __init__(self, name: str, *, compiled: bool) -> None:
        self.name = name
        self.hardware = _ON
        self.concurrent = not compiled
        self._compiled = compiled

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if torch is installed, and the device is present; imports nothing."""
        return torch_availability(self.name, hardware, self.hardware)

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an exported program and move it to the device; blocks. The first batch compiles it.

        Raises:
            OperatorError: the runtime is not available for `hardware`.
        """
        self.availability(hardware).check()
        torch = prepare_torch(options.threads)
        program, outputs = load_program(artifact)
        if hardware == Hardware.CUDA:
            program = torch.export.passes.move_to_device_pass(program, "cuda")
        module: Any = program.module(check_guards=False)
        if self._compiled:
            module = torch.compile(module, dynamic=True, options=_FREE if hardware == Hardware.CPU else None)
        inputs = input_names(program)
        if hardware == Hardware.CUDA:
            runner = CudaRunner(torch, module, len(inputs[0]), inputs[1], graphs=not self._compiled)
            names = [*inputs[0], *inputs[1]]
            return TorchCudaSession(runner, lambda given: [given[name] for name in names], outputs)
        return TorchSession(module, inputs, outputs, options.threads)


class TorchSession:
    """Program in memory on the CPU; threads share it, but the first batch, which compiles, runs alone."""

    def __init__(self, module: Any, inputs: tuple[list[str], list[str]], outputs: list[str], threads: int) -> None:
        self._module: Any = module
        self._threads = threads
        self._positional, self._named = inputs
        self._outputs = outputs
        self._first = threading.Lock()
        self._compiled = False

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the program does not take are ignored."""
        if self._compiled:
            return self._compute(inputs)
        with self._first:
            outputs = self._compute(inputs)
            self._compiled = True
            return outputs

    def close(self) -> None:
        """Free the program; call once no thread computes with it."""
        self._module = None

    def _compute(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        torch = import_torch()
        keep_threads(torch, self._threads)
        with torch.inference_mode():
            result = self._module(
                *(torch.from_numpy(as_writable(inputs[name])) for name in self._positional),
                **{name: torch.from_numpy(as_writable(inputs[name])) for name in self._named},
            )
        return {name: value.numpy() for name, value in zip(self._outputs, output_values(result), strict=True)}


class TorchCudaSession:
    """Program on a CUDA device; `take` returns the inputs that the program takes, in its order."""

    def __init__(
        self, runner: CudaRunner, take: Callable[[Tensors], list[NDArray[Any]]], outputs: Sequence[str]
    ) -> None:
        self._runner = runner
        self._take = take
        self._outputs = outputs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the program does not take are ignored."""
        return dict(zip(self._outputs, self._runner.run(self._take(inputs)), strict=True))

    def close(self) -> None:
        """Free the program and its memory on the device."""
        self._runner.close()


def load_program(artifact: Path) -> tuple[Any, list[str]]:
    """Load an exported program that was made safe, and the names of its outputs; blocks.

    Raises:
        ModelFailed: it was not made safe. Torch raises errors of its own as well.
    """
    check_safe(artifact)
    extra = {OUTPUTS_FILE: ""}
    with artifact.open("rb") as file:
        program = import_torch().export.load(file, extra_files=extra)
    return program, msgspec.json.decode(extra[OUTPUTS_FILE], type=list[str])


def torch_availability(name: str, hardware: str, on: tuple[str, ...]) -> Availability:
    """Return an availability that is true if torch is installed, and the device is present; imports nothing."""
    return runtime_availability(name, hardware, on, lambda: missing_package("torch", "torch", "torch"))


def import_torch() -> Any:
    """Import torch, untyped, because its types exist only if it is installed."""
    torch = importlib.import_module("torch")
    importlib.import_module("torch.export.passes")
    return torch


def prepare_torch(threads: int) -> Any:
    """Import torch into a process that computes with `threads` threads, and let the process keep freed memory."""
    torch = import_torch()
    keep_freed_memory()
    torch.set_num_threads(threads)
    return torch


def keep_threads(torch: Any, threads: int) -> None:
    """Set the number of threads for computations of the calling thread, including itself."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def input_names(program: Any) -> tuple[list[str], list[str]]:
    """Return the names of a program's positional and named inputs, in order; each input is one tensor."""
    positional, named = program.call_spec.in_spec.children()
    names = list(program.graph_signature.user_inputs)
    count = positional.num_leaves
    return names[:count], list(named.context)


_KEEP: Final = {-1: 1 << 30, -2: 64 << 20, -3: 32 << 20}
"""Parameters of `mallopt` by their numbers in `malloc.h`: the free bytes at the end of a heap before it is trimmed
(`M_TRIM_THRESHOLD`), the extra bytes by which a heap grows (`M_TOP_PAD`; a thread's heap has 64 MiB), and the size from
which on a block is mapped separately (`M_MMAP_THRESHOLD`; at most 32 MiB)."""


def keep_freed_memory() -> None:
    """Let this process keep freed memory until `process.memory.trim_memory`.

    Does nothing without glibc.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is not None:
        for number, value in _KEEP.items():
            set_parameter(number, value)
