"""Tests of workers named by device: their resources, and the refusal of missing devices."""

import os

import pytest

from infaas.up.local_workers import local_workers, name_workers, parse_workers
from infaas.up.options import UpOptions
from runtimes import cuda
from runtimes.protocol import Availability
from schemas.defaults import HOME
from schemas.errors import OperatorError
from workers.settings import WorkerSettings

GIB = 1 << 30


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with four cores and two GPUs that onnxruntime can use."""

    def cores(_process: int) -> set[int]:
        return {0, 1, 2, 3}

    monkeypatch.setattr(os, "sched_getaffinity", cores)
    monkeypatch.setattr(cuda, "availability", lambda: Availability(True))
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cuda, "memory_total", lambda index=0: (index + 1) * 16 * GIB)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])


@pytest.mark.usefixtures("two_gpus")
def test_name_workers_assigns_device_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    named = name_workers(parse_workers(["cuda:1", "cpu:2", "cuda", "cpu:1"]), "box-3f9a-")
    assert {name: (spec.device, spec.cpus) for name, spec in named.items()} == {
        "box-3f9a-cuda-0": (1, ()),
        "box-3f9a-cpu-0": (None, (0, 1)),
        "box-3f9a-cuda-1": (0, ()),
        "box-3f9a-cpu-1": (None, (2,)),
    }
    for name, value in named["box-3f9a-cpu-0"].environment.items():
        monkeypatch.setenv(name, value)
    settings = WorkerSettings()
    assert (settings.cpus, settings.cores, settings.device) == ((0, 1), 2, None)
    for name, value in named["box-3f9a-cuda-0"].environment.items():
        monkeypatch.setenv(name, value)
    settings = WorkerSettings()
    assert (settings.hardware, settings.device, settings.memory_bytes) == ("cuda", 1, 32 * GIB)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["gpu:0"], "cuda:0"),
        (["cpu"], "the number of cores"),
        (["cpu:0"], "at least one core"),
        (["cpu:3", "cpu:2"], "5 cores"),
        (["cuda:2"], "has 2 of them"),
        (["cuda:1", "cuda:1"], "named 2 times"),
        (["neuron:0"], "no Inferentia chip"),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_parse_workers_refuses_missing_devices(wanted: list[str], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        parse_workers(wanted)


@pytest.mark.usefixtures("two_gpus")
def test_parse_workers_names_missing_runtime_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])

    def absent(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(OperatorError, match=r"no installed runtime supports it: .*gpu extra"):
        parse_workers(["cuda:0"])


@pytest.mark.usefixtures("two_gpus")
def test_parse_workers_binds_no_cores_if_oversubscribed() -> None:
    assert [spec.cpus for spec in parse_workers(["cpu:3", "cpu:3"], oversubscribe=True)] == [(), ()]


@pytest.mark.usefixtures("two_gpus")
def test_local_workers_refuse_names_beside_number_or_launcher() -> None:
    with pytest.raises(OperatorError, match="cannot be combined with --workers"):
        local_workers(UpOptions(home=HOME, named_workers=("cpu:1",), max_workers=3))
    with pytest.raises(OperatorError, match="--launcher ray"):
        local_workers(UpOptions(home=HOME, named_workers=("cpu:1",), launcher="ray"))
    assert [spec.cores for spec in local_workers(UpOptions(home=HOME, workers=1, max_workers=4))] == [1] * 4
