"""Graphs compiled for AWS Inferentia: by torch-neuron for Inf1 (`torch-neuron`), by torch-neuronx for Inf2.

Both packages trace a module into TorchScript with a single operator, a graph for the chip. They are on the vendor's
index only (see `docker/Dockerfile`; PyPI has a placeholder under the first name). Rules:
* A graph computes batches of exactly its compiled size, which is the variant's largest batch. Smaller batches are
  padded, and the outputs of the padding are dropped.
* The cores visible to this process are its group (`runtimes/neuron.py`). The library distributes the loaded graphs over
  them, one core per graph while cores are left.
* A program has no names of inputs and outputs; the registry writes them into the archive, as for AOTInductor.

Written from the vendor's documentation, and tested only against stand-ins, on a machine without such a chip.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtimes.device import runtime_availability
from runtimes.protocol import Availability, LoadOptions, Session, Tensors
from runtimes.torch.cuda_runner import as_writable, output_values
from schemas.hardware import Hardware

NAMES_FILE: Final = "infaas-names.json"
"""Extra file in the archive that `torch.jit.save` writes."""
INDEX: Final = "https://pip.repos.neuron.amazonaws.com"
_ENTRY: Final = "trace"
"""Function that compiles, in both packages; the placeholder lacks it."""


class GraphNames(msgspec.Struct, frozen=True, kw_only=True):
    """Names and batch size that a compiled graph does not contain."""

    inputs: list[str]
    outputs: list[str]
    batch: int
    """Size of the batches that it computes."""


class TorchNeuronRuntime:
    """Runtime that loads graphs compiled by one of the two packages."""

    concurrent = False
    hardware: tuple[str, ...] = (Hardware.NEURON,)

    def __init__(self, name: str, package: str, chip: str) -> None:
        self.name = name
        self._package = package
        self._chip = chip

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if the package is no placeholder, and the chip is present."""
        return runtime_availability(self.name, hardware, self.hardware, self._missing_package)

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load a graph onto the chip; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`.
        """
        self.availability(hardware).check()
        torch: Any = importlib.import_module("torch")
        importlib.import_module(self._package)  # registers the graph's operator
        extra = {NAMES_FILE: ""}
        module = torch.jit.load(str(artifact), _extra_files=extra)
        return TorchNeuronSession(torch, module, msgspec.json.decode(extra[NAMES_FILE], type=GraphNames))

    def _missing_package(self) -> str:
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec(self._package) is None:
            return f"{self.name} ({self._chip}) is not installed: pip install {self.name} --extra-index-url {INDEX}"
        package: Any = importlib.import_module(self._package)
        if not hasattr(package, _ENTRY):
            return f"{self.name} is PyPI's placeholder: pip install {self.name} --extra-index-url {INDEX}"
        return ""


class TorchNeuronSession:
    """Graph on the chip."""

    def __init__(self, torch: Any, module: Any, names: GraphNames) -> None:
        self._torch = torch
        self._module: Any = module
        self._names = names

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch of at most the graph's size; inputs that it does not take are ignored."""
        names = self._names
        count = len(inputs[names.inputs[0]])
        if count > names.batch:
            raise ValueError(f"the graph was compiled for batches of {names.batch}, not {count}")
        tensors = (self._torch.from_numpy(as_writable(padded(inputs[name], names.batch))) for name in names.inputs)
        with self._torch.no_grad():
            result = output_values(self._module(*tensors))
        return {name: value.numpy()[:count] for name, value in zip(names.outputs, result, strict=True)}

    def close(self) -> None:
        """Unload the graph: the library does so once nothing refers to it."""
        self._module = None


def padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return the array with its last row repeated up to `rows` rows; a model may reject made-up rows."""
    missing = rows - len(array)
    return array if not missing else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
