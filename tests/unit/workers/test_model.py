"""Tests of loading a model and of the errors of unusable models and inputs."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from registry.artifacts import ArtifactStore
from runtimes.protocol import LoadOptions, Tensors
from schemas.catalog import Catalog
from schemas.errors import InvalidRequest, ModelFailed
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, TensorSpec
from tests.example_rows import INPUT, a_profile, a_task, a_variant, an_architecture
from workers.serving.computation import InputFailure, input_failure
from workers.serving.loading import DeviceMemory, close_session, footprint_of, open_session
from workers.serving.model import ServableModel, check_inputs, find_model
from workers.settings import WorkerSettings
from workers.slots.footprint import Footprint

OUTPUT = TensorSpec(name="y", datatype="FP32", shape=(-1, 4))
MODEL = ServableModel(a_variant(), (INPUT,), (OUTPUT,), LatencyModel(a_profile().latency, 8), 1000)


class Runtime:
    """Runtime and session in one; batches fail with `error`, if it is set."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: Exception | None = None
        self.options = LoadOptions(precision="")

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> "Runtime":
        self.events.append("load")
        self.options = options
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

    monkeypatch.setattr("workers.serving.model.find_runtime", find)
    return made


def test_open_session_closes_model_after_failed_warm_up(runtime: Runtime, tmp_path: Path) -> None:
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


def test_open_session_uses_measured_number_of_threads(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a model")
    store = ArtifactStore(tmp_path)
    model = replace(MODEL, threads=2, variant=replace(MODEL.variant, artifact=store.put(tmp_path / "file")))
    for cores, threads, width, parallel in ((4, 1, 2, 1), (4, 2, 1, 2), (2, 1, 2, 1)):
        settings = WorkerSettings(cores=cores, threads=threads, memory_bytes=1 << 50)
        assert footprint_of(model, settings) == Footprint(width, parallel, is_concurrent=width == 1)
        close_session(model.name, open_session(model, settings, store, DeviceMemory(settings)), DeviceMemory(settings))
        assert (runtime.options.threads, runtime.options.lanes) == (2, parallel)
    with pytest.raises(ModelFailed, match="computes on 2 cores at once, but this worker has 1"):
        open_session(model, WorkerSettings(cores=1), store, DeviceMemory(WorkerSettings(cores=1)))


@pytest.fixture
def _silent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_hardware: str) -> int:
        return 0

    monkeypatch.setattr("workers.serving.loading.memory_in_use", silent)


@pytest.mark.usefixtures("_silent_device")
def test_device_memory_sums_claims_of_loaded_models() -> None:
    memory = DeviceMemory(WorkerSettings(cores=1, memory_bytes=1 << 20))
    for _ in range(2):  # a second claim of the same model adds nothing
        memory.claim(MODEL)
    assert memory.used == 1000
    for _ in range(2):
        memory.release(MODEL.name)
    assert memory.used == 0


@pytest.mark.usefixtures("_silent_device")
def test_device_memory_is_expected_if_release_frees_enough() -> None:
    memory = DeviceMemory(WorkerSettings(cores=1, memory_bytes=1500))
    loaded, small = MODEL, replace(MODEL, variant=a_variant("small.onnx-fp32.cpu"))
    large = replace(MODEL, variant=a_variant("large.onnx-fp32.cpu"), memory_bytes=1600)
    memory.claim(loaded)
    assert not memory.is_expected(small), "nobody leaves"
    memory.expect_release(loaded.name, expected=True)
    assert memory.is_expected(small)
    assert not memory.is_expected(large), "it will not fit then, either"
    memory.expect_release(loaded.name, expected=False)
    assert not memory.is_expected(small), "it stays after all"
    memory.expect_release(loaded.name, expected=True)
    memory.release(loaded.name)
    assert not memory.is_expected(small), "it is there"
    memory.claim(small)


IDS = TensorSpec(name="ids", datatype="INT64", shape=(-1, -1), below=5, longest=3)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[0, 4, 1]], ""),
        ([[0, 1, 2, 3]], "has 4 values a row, but this model takes at most 3"),
        ([[-1]], "from 0 to 4, not -1"),
    ],
)
def test_check_inputs_refuses_values_outside_bounds(ids: list[list[int]], said: str) -> None:
    if not said:
        assert check_inputs((IDS,), {"ids": np.array(ids, np.int64)}) == 1
        return
    with pytest.raises(InvalidRequest, match=said):
        check_inputs((IDS,), {"ids": np.array(ids, np.int64)})


def test_find_model_takes_inputs_of_architecture() -> None:
    wide = replace(IDS, below=9, longest=None)
    task, variant = replace(a_task(), inputs=(wide,)), a_variant()
    for inputs, taken in (((IDS,), IDS), ((), wide)):  # the second was registered before inputs were stored
        architecture = replace(an_architecture(variant.architecture), inputs=inputs)
        catalog = Catalog(
            {variant.task: task},
            {architecture.name: architecture},
            {variant.name: variant},
            {variant.name: a_profile()},
        )
        assert find_model(catalog, variant.name, 8).inputs == (taken,)


def test_find_model_limits_batches_but_not_answers_at_once() -> None:
    task, variant = a_task(), a_variant()
    architecture, measured = an_architecture(variant.architecture), a_profile()
    generation = GenerationProfile(
        context_tokens=64, sequences=variant.max_batch, prefill=(PrefillTime(8, 0.1, 0.1),),
        step=(StepTime(1, 0.1, 0.1),),
        prompt_tokens=8, answer_tokens=8, bytes_per_token=4.0,
    )  # fmt: skip

    def found(profile: Profile) -> ServableModel:
        rows = {task.name: task}, {architecture.name: architecture}, {variant.name: variant}, {variant.name: profile}
        return find_model(Catalog(*rows), variant.name, 1)

    assert found(measured).latency.max_batch == 1
    generative = found(replace(measured, generation=generation))
    assert generative.generation_model.sequences == generative.latency.max_batch == variant.max_batch > 1
    assert generative.generation_model is generative.generation_model, "each query needs it: it is made once"


def test_input_failure_omits_library_internals() -> None:
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. Name:'x' "
        "Status Message: /src/core/element_wise_ops.h:583 void onnxruntime::BroadcastIterator::Append(ptrdiff_t, "
        "ptrdiff_t) axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than "
        "1. 512 by 600\n"
    )
    failure = input_failure(RuntimeError(said))
    assert isinstance(failure, InputFailure)
    refusal = failure.as_refusal()
    assert str(refusal).endswith("input only: Attempting to broadcast an axis by a dimension other than 1. 512 by 600")
    for error in (ValueError(""), RuntimeError("/a/b.cc:3"), KeyError("k")):
        assert str(input_failure(error)).partition(": ")[2]
    assert not isinstance(input_failure(MemoryError()), InputFailure)
