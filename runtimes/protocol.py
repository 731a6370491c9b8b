"""The interface between the system and whatever executes models.

A runtime says whether it can run here, and loads artifacts. A session is one loaded variant. Both block: callers run
them in threads. A missing package or device makes a runtime unavailable with a reason, never an import error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import OperatorError

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by tensor name, the first dimension of each being the batch."""


class Availability(msgspec.Struct, frozen=True):
    """Whether a runtime can run on this machine, and if not, what is missing."""

    available: bool
    reason: str = ""

    def check(self) -> None:
        """Raise `OperatorError` with the reason if it cannot."""
        if not self.available:
            raise OperatorError(self.reason)


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options that a variant is loaded with."""

    precision: str
    threads: int = 1
    """Threads that one batch computes with, on a CPU."""
    lanes: int = 1
    """Batches that compute at once, where the runtime must be told beforehand."""
    max_batch: int = 32
    """Most inputs that are computed at once."""


class Session(Protocol):
    """One variant in memory."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch. Raises whatever the runtime raises; the caller says it was the model."""
        ...

    def close(self) -> None:
        """Free the memory; the session is not used again."""
        ...


class Runtime(Protocol):
    """One way to execute artifacts on one or more types of hardware."""

    @property
    def name(self) -> str:
        """Name of the runtime, as in `Variant.runtime`."""
        ...

    @property
    def concurrent(self) -> bool:
        """Whether several threads may compute with one session at once, and do so faster than one after the other."""
        ...

    @property
    def hardware(self) -> tuple[str, ...]:
        """Hardware types that it runs on, where its package and the device are there."""
        ...

    def availability(self, hardware: str) -> Availability:
        """Whether variants for `hardware` can run in this process."""
        ...

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        """Load an artifact; blocks for as long as that takes."""
        ...
