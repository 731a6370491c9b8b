"""Loading of models into the memory of the worker's device, and classification of failed loads.

Rules.
* Memory is accounted for before a load, by the device's report, or by the profiles of the loaded models if the device
  reports nothing. A load that would not fit is not begun, so it endangers no serving model. A load that fits once other
  models, already leaving, have gone waits for them.
* A load that still runs out of memory is treated alike: its memory is freed, and it may succeed later.
* An instance computes on as many cores as its variant was measured with, on every worker.
* A model that raises will raise again. Lack of memory, and problems that an operator can fix (`OperatorError`), may
  pass.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from process.cpus import lower_priority
from process.memory import trim_memory
from registry.artifacts import ArtifactStore
from runtimes.catalog import is_concurrent
from runtimes.device import memory_in_use
from runtimes.protocol import Tensors
from schemas.errors import ModelFailed, OperatorError, RefusalReason
from schemas.hardware import Hardware, slots_taken
from workers.serving.model import LoadedModel, ServableModel, load_session
from workers.settings import WorkerSettings
from workers.slots.footprint import Footprint, footprint_in

log = logging.getLogger(__name__)

_LONGEST_REASON: Final = 500
_SIGNS: Final = ("out of memory", "bad_alloc", "failed to allocate", "alloc_failed", "cannot allocate memory")
"""Signs of a lack of memory, in lower case, in messages of the libraries; they raise errors of many types."""


def footprint_of(model: ServableModel, settings: WorkerSettings) -> Footprint:
    """Return the footprint of a model on this worker."""
    taken = slots_taken(settings.hardware, model.threads, settings.threads)
    return footprint_in(settings.slots, taken, is_concurrent=is_concurrent(model.variant.runtime))


def check_width(model: ServableModel, settings: WorkerSettings) -> None:
    """Raise `ModelFailed` if a batch of the model computes on more cores than the worker has."""
    if slots_taken(settings.hardware, model.threads, settings.threads) > settings.slots:
        cores = settings.slots * settings.threads
        raise ModelFailed(f"{model.name} computes on {model.threads} cores at once, but this worker has {cores}")


class OutOfMemory(OperatorError):
    """Error: there is not enough memory for a model now."""


class LoadFailure(NamedTuple):
    """Failure of a load."""

    reason: str
    may_pass: bool
    """True if another attempt may succeed though the model stays the same."""


class DeviceMemory:
    """Memory of the worker's device and the loaded models' share of it; models load and unload one at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._hardware = settings.hardware
        self._limit = settings.memory_bytes
        self._profiled: dict[str, int] = {}
        """Profiled bytes, by model."""
        self._leaving: set[str] = set()
        """Models that are about to be unloaded."""

    @property
    def used(self) -> int:
        """Bytes in use according to the device, or else the sum of the loaded models' profiles."""
        return memory_in_use(self._hardware) or sum(self._profiled.values())

    def claim(self, model: ServableModel) -> None:
        """Reserve the memory of a model.

        Raises:
            OutOfMemory: there is not enough.
        """
        if self.used + model.memory_bytes > self._limit:
            trim_memory()  # the allocator may hold memory that other models have freed
        used = self.used
        if used + model.memory_bytes > self._limit:
            raise OutOfMemory(
                f"out of memory: needs {model.memory_bytes >> 20} MiB, but {used >> 20} of {self._limit >> 20} are used"
            )
        self._profiled[model.name] = model.memory_bytes

    def release(self, name: str) -> None:
        """Return the memory of a model."""
        self._profiled.pop(name, None)
        self._leaving.discard(name)

    def expect_release(self, name: str, *, expected: bool) -> None:
        """Note if a model is about to be unloaded; no-op for one that is not loaded."""
        if expected and name in self._profiled:
            self._leaving.add(name)
        else:
            self._leaving.discard(name)

    def is_expected(self, model: ServableModel) -> bool:
        """Return true if a model does not fit now, but will once the leaving models are gone."""
        leaving = sum(self._profiled.get(name, 0) for name in self._leaving - {model.name})
        return 0 < self.used + model.memory_bytes - self._limit <= leaving


class UnloadableModel:
    """Session of a model that could not be loaded: it fails each query with the reason."""

    def __init__(self, name: str, reason: str) -> None:
        self._message = f"{name} cannot be loaded: {reason}"

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Raise the reason; only the empty probe succeeds, so that the worker is not replaced."""
        if inputs:
            raise ModelFailed(self._message, reason=RefusalReason.LOAD_FAILED)
        return {}

    def close(self) -> None:
        """Do nothing: there is no memory to free."""


def open_session(
    model: ServableModel, settings: WorkerSettings, artifacts: ArtifactStore, memory: DeviceMemory
) -> LoadedModel:
    """Load a model if there is memory for it; blocks. Raises the errors of the runtime, and `OutOfMemory`."""
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
    """Load a model at low priority if possible: a load takes seconds of a core, and queries must not wait for it.

    Only if a single thread computes: the threads that a session or a driver starts would inherit the low priority. A
    generative session always computes in threads of its own.
    """
    lanes = footprint_of(model, settings).parallel
    if settings.hardware != Hardware.CPU or model.threads > 1 or model.generation is not None:
        return load_session(model, artifacts, model.threads, lanes)
    with ThreadPoolExecutor(1, "low priority load", lower_priority) as thread:
        return thread.submit(load_session, model, artifacts, model.threads, lanes).result()


def close_session(name: str, loaded: LoadedModel, memory: DeviceMemory) -> None:
    """Unload a model and free its memory; blocks."""
    loaded.resources.close()
    memory.release(name)
    trim_memory()


def load_failure(error: Exception) -> LoadFailure:
    """Return the failure to report for an error of a load."""
    return LoadFailure(first_line(error)[:_LONGEST_REASON], isinstance(error, OperatorError))


def is_out_of_memory(error: BaseException) -> bool:
    """Return true if an error of any library reports a lack of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__
