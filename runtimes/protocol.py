"""Interface between the system and the libraries that execute models.

A runtime reports if it can run here, and loads artifacts. A session is one loaded variant. Both block, so callers run
them in threads. If a package or device is missing, a runtime is unavailable with a reason; importing it never fails.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import OperatorError

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by tensor name; the first dimension of each is the batch."""


class Availability(msgspec.Struct, frozen=True):
    """Availability of a runtime on this machine, with the reason if it cannot run."""

    available: bool
    reason: str = ""

    def check(self) -> None:
        """Raise `OperatorError` with the reason if it is not available."""
        if not self.available:
            raise OperatorError(self.reason)


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options for loading a variant."""

    precision: str
    threads: int = 1
    """Threads that compute one batch on a CPU."""
    lanes: int = 1
    """Batches that compute at once, for runtimes that need to know it in advance."""
    max_batch: int = 32
    """Largest batch."""


class Session(Protocol):
    """One variant in memory."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch. Errors of the runtime pass through; the caller attributes them to the model."""
        ...

    def close(self) -> None:
        """Free the memory; the session must not be used again."""
        ...


class Runtime(Protocol):
    """Method of executing artifacts on one or more types of hardware."""

    @property
    def name(self) -> str:
        """Name of the runtime, as in `Variant.runtime`."""
        ...

    @property
    def concurrent(self) -> bool:
        """True if several threads may compute with one session at once, faster than one after the other."""
        ...

    @property
    def hardware(self) -> tuple[str, ...]:
        """Hardware types that it supports if its package and the device are present."""
        ...

    def availability(self, hardware: str) -> Availability:
        """Return whether variants for `hardware` can run in this process, and the reason if not."""
        ...

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an artifact; blocks."""
        ...
