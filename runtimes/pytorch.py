"""Torch's exported programs, run as they are (`torch-eager`) or compiled by inductor (`torch-compile`).

Rules:
* Torch is imported when a program is loaded, not before: it takes seconds and 200 MB.
* Only archives that `exported_archive.make_safe` wrote are loaded, since `torch.export.load` runs code from others.
* A program knows no names for its outputs; the registry wrote them into the archive (`OUTPUTS_ENTRY`).
* Threads share a program. A compiled one may be compiled again at any batch, which is not safe beside another, so a
  worker computes one batch of it at a time.
* Torch frees each tensor that a batch makes on its way; what it frees is kept for the next batch.
* Torch counts threads by the thread that computes: until something asks, one has as many as there are cores in what is
  called below torch. So each session says it wherever it computes.
"""

import importlib
import threading
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.availability import missing_package, runtime_availability
from runtimes.exported_archive import OUTPUTS_FILE, check_safe
from runtimes.freed_memory import keep_freed_memory
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from runtimes.torch_cuda import CudaRunner, as_writable, output_values
from schemas.hardware import Hardware

_FREE: Final = {"cpp_wrapper": True}
"""Options of a compiled program that lets other threads of Python go on while it computes: its kernels are called from
C++, without the interpreter's lock, which they hold when they are called from Python. A worker reads and answers
meanwhile."""
_ON: Final[tuple[str, ...]] = (Hardware.CPU, Hardware.CUDA)


class TorchRuntime:
    """Runtime that loads exported programs with torch, and compiles them for any batch size if asked."""

    def __init__(self, name: str, *, compiled: bool) -> None:
        self.name = name
        self.hardware = _ON
        self.concurrent = not compiled
        self._compiled = compiled

    def availability(self, hardware: str) -> Availability:
        """Whether torch is installed, without importing it, and the device is there."""
        return torch_availability(self.name, hardware, self.hardware)

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an exported program and move it to the device; blocks. Compilation happens at the first batch.

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
            return TorchCudaSession(runner, inputs, outputs)
        return TorchSession(module, inputs, outputs, options.threads)


class TorchSession:
    """A program in memory, on the CPU; threads share it, but the first batch, which compiles, runs alone."""

    def __init__(self, module: Any, inputs: tuple[list[str], list[str]], outputs: list[str], threads: int) -> None:
        self._module: Any = module
        self._threads = threads
        self._positional, self._named = inputs
        self._outputs = outputs
        self._first = threading.Lock()
        self._compiled = False

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the program does not take are left out."""
        if self._compiled:
            return self._compute(inputs)
        with self._first:
            outputs = self._compute(inputs)
            self._compiled = True
            return outputs

    def close(self) -> None:
        """Free the program once no thread computes with it any more."""
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
    """A program on a CUDA device."""

    def __init__(self, runner: CudaRunner, inputs: tuple[list[str], list[str]], outputs: list[str]) -> None:
        self._runner = runner
        self._inputs = [*inputs[0], *inputs[1]]
        self._outputs = outputs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch; inputs that the program does not take are left out."""
        return dict(zip(self._outputs, self._runner.run([inputs[name] for name in self._inputs]), strict=True))

    def close(self) -> None:
        """Free the program; its device's memory, too."""
        self._runner.close()


def load_program(artifact: Path) -> tuple[Any, list[str]]:
    """Load an exported program that was made safe, and the names of its outputs; blocks.

    Raises:
        ModelFailed: it was not made safe. Torch raises errors of its own, too.
    """
    check_safe(artifact)
    extra = {OUTPUTS_FILE: ""}
    with artifact.open("rb") as file:
        program = import_torch().export.load(file, extra_files=extra)
    return program, msgspec.json.decode(extra[OUTPUTS_FILE], type=list[str])


def torch_availability(name: str, hardware: str, on: tuple[str, ...]) -> Availability:
    """Whether torch is installed, without importing it, and the device is there."""
    return runtime_availability(name, hardware, on, lambda: missing_package("torch", "torch", "torch"))


def import_torch() -> Any:
    """Import torch, untyped: its types are only there where it is installed."""
    torch = importlib.import_module("torch")
    importlib.import_module("torch.export.passes")
    return torch


def prepare_torch(threads: int) -> Any:
    """Import torch into a process that is to compute with so many threads, and keeps what its batches free."""
    torch = import_torch()
    keep_freed_memory()
    torch.set_num_threads(threads)
    return torch


def keep_threads(torch: Any, threads: int) -> None:
    """Have what the calling thread computes take so many threads, this one included."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def input_names(program: Any) -> tuple[list[str], list[str]]:
    """Names of a program's positional and its named inputs, in order; each input is one tensor."""
    positional, named = program.call_spec.in_spec.children()
    names = list(program.graph_signature.user_inputs)
    count = positional.num_leaves
    return names[:count], list(named.context)
