"""Loading a model, and what is left of one that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.artifacts import ArtifactStore
from runtimes.protocol import LoadOptions, Tensors
from schemas.latency import LatencyModel
from tests.store_rows import INPUT, a_profile, a_variant
from workers.loading import DeviceMemory, close_session, open_session
from workers.model import ServableModel
from workers.settings import WorkerSettings

MODEL = ServableModel(a_variant(), (INPUT,), ("y",), LatencyModel(a_profile().latency, 8), 1000)


class Runtime:
    """A runtime whose sessions fail at their first batch, or not."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: Exception | None = None

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> "Runtime":
        self.events.append("load")
        return self

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        if self.error is not None:
            raise self.error
        return {}

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    made = Runtime()

    def find(_name: str) -> Runtime:
        return made

    monkeypatch.setattr("workers.model.find_runtime", find)
    return made


def test_a_model_that_fails_while_it_warms_up_is_freed(runtime: Runtime, tmp_path: Path) -> None:
    settings = WorkerSettings(cores=1, memory_bytes=1 << 50)
    memory, store = DeviceMemory(settings), ArtifactStore(tmp_path)
    (tmp_path / "file").write_bytes(b"a model")
    model = replace(MODEL, variant=replace(MODEL.variant, artifact=store.put(tmp_path / "file")))
    runtime.error = ValueError("no such shape")
    with pytest.raises(ValueError, match="no such shape"):
        open_session(model, settings, store, memory)
    assert runtime.events == ["load", "close"]
    runtime.error = None
    loaded = open_session(model, settings, store, memory)
    assert runtime.events[2:] == ["load"]
    close_session(model.name, loaded, memory)
    assert runtime.events[2:] == ["load", "close"]


def test_memory_is_what_the_models_that_are_loaded_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_hardware: str) -> int:
        return 0

    monkeypatch.setattr("workers.loading.memory_in_use", silent)
    memory = DeviceMemory(WorkerSettings(cores=1, memory_bytes=1 << 20))
    for _ in range(2):  # who claims twice has it once
        memory.claim(MODEL)
    assert memory.used == 1000
    for _ in range(2):
        memory.release(MODEL.name)
    assert memory.used == 0
