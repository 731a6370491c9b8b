"""The steps of a registration that touch a model: what each is given, and what it gives back.

They run in `child.py`'s process. All files named lie in the registration's own temporary folder, but for artifacts.
"""

from pathlib import Path

import msgspec
import numpy as np

from registry.generators import generate
from registry.measure import Measured, compute_all, measure, rows
from registry.plan import Generator
from registry.samples import Arrays
from registry.signature import Signature, read_signature
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions

SINGLE: int = 4
"""Samples computed one by one, to see whether a batch mixes them up."""


class Inspect(msgspec.Struct, frozen=True, tag=True):
    """Read a model's signature."""

    file: Path
    source_format: str

    def run(self) -> Signature:
        """Raises `InvalidRequest` where the model cannot be served."""
        return read_signature(self.file, self.source_format)


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Make a variant's file."""

    generator: Generator
    source: Path
    target: Path
    calibration: Path | None

    def run(self) -> None:
        """Raises `NothingToDo` where this model has no such variant."""
        generate(self.generator, self.source, self.target, load_arrays(self.calibration) if self.calibration else None)


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Profile a variant and keep its outputs."""

    artifact: Path
    runtime: str
    hardware: str
    options: LoadOptions
    samples: Path
    outputs: Path
    """Written: the outputs for all samples."""
    single: Path | None = None
    """Written, if given: the first outputs, computed one by one."""

    def run(self) -> Measured:
        """Raises whatever the runtime raises."""
        samples = load_arrays(self.samples)
        measured, outputs = measure(self.artifact, self.runtime, self.hardware, self.options, samples)
        save_arrays(self.outputs, outputs)
        if self.single is not None:
            save_arrays(self.single, self._one_by_one(samples))
        return measured

    def _one_by_one(self, samples: Arrays) -> Arrays:
        session = find_runtime(self.runtime).load(self.artifact, self.hardware, self.options)
        alone = LoadOptions(precision=self.options.precision, threads=self.options.threads, max_batch=1)
        return compute_all(session, rows(samples, 0, SINGLE), alone)


Step = Inspect | Generate | Measure


def save_arrays(file: Path, arrays: Arrays) -> None:
    """Write arrays; BYTES as fixed-width bytes, so that no pickle is needed."""
    plain = {name: array.astype("S") if array.dtype.kind == "O" else array for name, array in arrays.items()}
    with file.open("wb") as content:
        np.savez(content, allow_pickle=False, **plain)


def load_arrays(file: Path) -> Arrays:
    """Read what `save_arrays` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: array.astype(object) if array.dtype.kind == "S" else array for name, array in arrays.items()}
