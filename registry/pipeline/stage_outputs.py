"""Computes the outputs of a ready variant for given inputs, without measuring."""

from pathlib import Path

import msgspec

from registry.pipeline.measurement import compute_all
from registry.samples import load_arrays, save_arrays
from runtimes.catalog import find_runtime
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import LoadOptions
from schemas.rows.processing import Processing


class ComputeOutputs(msgspec.Struct, frozen=True, tag=True):
    """Load a variant and store its outputs for all rows of a file."""

    artifact: Path
    runtime: str
    hardware: str
    options: LoadOptions
    samples: Path
    outputs: Path
    """File for the outputs."""
    processing: Processing | None = None
    """Processing around the model, its files as paths."""
    mixes_lengths: bool = False
    """True if inputs of different lengths may share a batch."""

    def run(self) -> None:
        """Compute the outputs; raises any error of the runtime."""
        session = find_runtime(self.runtime).load(self.artifact, self.hardware, self.options)
        if self.processing is not None:
            session = ProcessedSession(session, self.processing)
            session.mix_lengths(self.mixes_lengths)
        save_arrays(self.outputs, compute_all(session, load_arrays(self.samples), self.options))
