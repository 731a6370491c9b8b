"""Loads models into the memory of the worker's device, and takes what cannot be loaded apart by whose fault it is.

Rules:
* Memory is accounted for before a load: by what the device says is in use, and by the profiles of what is loaded where
  it says nothing. What would not fit is not begun, so nothing that serves is put at risk. What fits once others have
  gone, who are on their way, waits for them.
* A load that runs out of memory all the same is as one that would not fit: it frees what it had, and may succeed later.
* A model that raises will raise again. Memory, and what a person can put right (`OperatorError`), may be there soon.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from process.memory import trim_memory
from process.priority import lower_priority
from registry.artifacts import ArtifactStore
from runtimes.device import memory_in_use
from runtimes.protocol import Tensors
from schemas.errors import ModelFailed, OperatorError
from schemas.hardware import Hardware
from workers.footprint import check_width, footprint_of
from workers.model import LoadedModel, ServableModel, load_session
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

_LONGEST_REASON: Final = 500
_SIGNS: Final = ("out of memory", "bad_alloc", "failed to allocate", "alloc_failed", "cannot allocate memory")
"""What libraries say, in lower case, when there is no memory: they raise errors of a dozen types."""


class OutOfMemory(OperatorError):
    """There is no memory for a model now."""


class LoadFailure(NamedTuple):
    """Why a model could not be loaded."""

    reason: str
    may_pass: bool
    """Whether trying again later may help, though the model stays as it is."""


class DeviceMemory:
    """Memory of the worker's device, and what loaded models take of it; models come and go one at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._hardware = settings.hardware
        self._limit = settings.memory_bytes
        self._profiled: dict[str, int] = {}
        """Bytes by model, as profiled."""
        self._leaving: set[str] = set()
        """Models that are to go."""

    @property
    def used(self) -> int:
        """Bytes in use: as the device says, or where it says nothing, as what is loaded was profiled."""
        return memory_in_use(self._hardware) or sum(self._profiled.values())

    def claim(self, model: ServableModel) -> None:
        """Take what the model needs.

        Raises:
            OutOfMemory: there is not as much.
        """
        if self.used + model.memory_bytes > self._limit:
            trim_memory()  # what was freed by others may have been kept for their next batch
        used = self.used
        if used + model.memory_bytes > self._limit:
            raise OutOfMemory(
                f"out of memory: needs {model.memory_bytes >> 20} MiB, but {used >> 20} of {self._limit >> 20} are used"
            )
        self._profiled[model.name] = model.memory_bytes

    def release(self, name: str) -> None:
        """Give back what a model needed."""
        self._profiled.pop(name, None)
        self._leaving.discard(name)

    def expect_release(self, name: str, *, expected: bool) -> None:
        """Note whether a model is about to go; one that is not loaded has nothing to give back."""
        if expected and name in self._profiled:
            self._leaving.add(name)
        else:
            self._leaving.discard(name)

    def is_expected(self, model: ServableModel) -> bool:
        """Whether there is too little for a model now, but will be enough when those have gone that are about to."""
        leaving = sum(self._profiled.get(name, 0) for name in self._leaving - {model.name})
        return 0 < self.used + model.memory_bytes - self._limit <= leaving


class UnloadableModel:
    """Session of a model that could not be loaded: it fails each query with the reason, and nothing else."""

    def __init__(self, name: str, reason: str) -> None:
        self._message = f"{name} cannot be loaded: {reason}"

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Raise the reason; only the probe of a model that has computed nothing, which is empty, succeeds."""
        if inputs:
            raise ModelFailed(self._message)
        return {}

    def close(self) -> None:
        """There is nothing to free."""


def open_session(
    model: ServableModel, settings: WorkerSettings, artifacts: ArtifactStore, memory: DeviceMemory
) -> LoadedModel:
    """Load a model if there is memory for it; blocks. Raises what the runtime raises, and `OutOfMemory`."""
    check_width(model, settings)
    memory.claim(model)
    began = time.monotonic()
    try:
        loaded = _load(model, settings, artifacts)
    except BaseException as error:
        memory.release(model.name)
        if is_out_of_memory(error):
            raise OutOfMemory(f"out of memory while loading: {first_line(error)}") from None
        raise
    log.info("loaded %s in %.2f s", model.name, time.monotonic() - began)
    return loaded


def _load(model: ServableModel, settings: WorkerSettings, artifacts: ArtifactStore) -> LoadedModel:
    """Load a model, letting those that serve go first: it takes seconds of a core, and queries must not wait.

    Only where it is one thread that computes: those that a session or a driver starts inherit what their starter has.
    """
    lanes = footprint_of(model, settings).parallel
    if settings.hardware != Hardware.CPU or model.threads > 1:
        return load_session(model, artifacts, model.threads, lanes)
    with ThreadPoolExecutor(1, "gives way", lower_priority) as thread:
        return thread.submit(load_session, model, artifacts, model.threads, lanes).result()


def close_session(name: str, loaded: LoadedModel, memory: DeviceMemory) -> None:
    """Free a model; blocks."""
    loaded.resources.close()
    memory.release(name)
    trim_memory()


def load_failure(error: Exception) -> LoadFailure:
    """What to say of a load that raised."""
    return LoadFailure(first_line(error)[:_LONGEST_REASON], isinstance(error, OperatorError))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory, whichever library raised it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)


def first_line(error: BaseException) -> str:
    """The error in a line."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__
