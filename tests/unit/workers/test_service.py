import pytest

from runtimes import cuda
from runtimes.protocol import Availability
from schemas.hardware import Hardware
from workers.service import worker_row
from workers.settings import WorkerSettings


def test_worker_row_of_cuda_names_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "availability", lambda: Availability(True))
    monkeypatch.setattr(cuda, "device_name", lambda: "Tesla V100")
    monkeypatch.setattr(cuda, "memory_total", lambda _index=0: 16 << 30)
    row = worker_row(WorkerSettings(hardware=Hardware.CUDA))
    assert (row.device, row.memory_bytes) == ("Tesla V100", 16 << 30)


@pytest.mark.parametrize("hardware", [Hardware.CUDA, Hardware.NEURON])
def test_worker_row_without_device_name_uses_hardware(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "availability", lambda: Availability(False, "no driver"))
    assert worker_row(WorkerSettings(hardware=hardware)).device == hardware.value
