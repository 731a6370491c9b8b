"""Tests of finding CUDA, Inferentia and Intel devices, with stand-ins for libraries and device files."""

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

from runtimes import cuda, device, intel, neuron
from schemas.errors import OperatorError
from schemas.hardware import Hardware

GIB = 1 << 30
BUS_IDS = (b"00000000:17:00.0", b"00000000:65:00.0")


class Driver:
    """Stand-in for libcuda: two devices; the environment may hide one."""

    def __init__(self) -> None:
        visible = os.environ.get(cuda.VISIBLE)
        self.devices = [0, 1] if visible is None else [int(name) for name in visible.split(",")]

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.devices)
        return 0

    def cuDeviceGet(self, found: Any, ordinal: int) -> int:
        found._obj.value = self.devices[ordinal]
        return 0

    def cuDeviceGetName(self, name: Any, length: int, found: Any) -> int:
        name.value = f"GPU {found.value}".encode()
        return 0

    def cuDeviceGetPCIBusId(self, bus_id: Any, length: int, found: Any) -> int:
        bus_id.value = BUS_IDS[found.value]
        return 0


class Nvml:
    """Stand-in for libnvidia-ml, which ignores the environment and numbers all devices."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id: Any, handle: Any) -> int:
        handle._obj.value = BUS_IDS.index(bus_id.value) + 1
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = handle.value * 16 * GIB, handle.value * GIB
        return 0


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(name: str) -> Driver | Nvml:
        return Driver() if name == "libcuda.so.1" else Nvml()

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.delenv(cuda.VISIBLE, raising=False)


@pytest.mark.usefixtures("gpus")
def test_cuda_reads_memory_of_used_device() -> None:
    assert (device.device_count(Hardware.CUDA), device.missing_device(Hardware.CUDA)) == (2, "")
    assert (device.device_name(Hardware.CUDA), device.device_memory(Hardware.CUDA, 1)) == ("GPU 0", 32 * GIB)
    device.use_device(Hardware.CUDA, 1)
    assert device.device_count(Hardware.CUDA) == 1
    assert (device.device_name(Hardware.CUDA), device.device_memory(Hardware.CUDA)) == ("GPU 1", 32 * GIB)
    assert device.memory_in_use(Hardware.CUDA) == 2 * GIB


@pytest.mark.usefixtures("gpus")
def test_cuda_use_device_counts_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cuda.VISIBLE, "1")
    device.use_device(Hardware.CUDA, 0)
    assert os.environ[cuda.VISIBLE] == "1"


def test_cuda_without_driver_gives_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert "libcuda.so.1" in device.missing_device(Hardware.CUDA)
    assert device.device_count(Hardware.CUDA) == 0
    assert device.missing_device(Hardware.CPU) == ""


def test_neuron_use_device_selects_cores_of_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(neuron, "_SYSFS", tmp_path / "sysfs")
    monkeypatch.setenv(neuron.VISIBLE, "")
    assert "neuron0" in device.missing_device(Hardware.NEURON)
    for number, cores in enumerate((2, 2, 2)):
        (tmp_path / "sysfs" / f"neuron{number}").mkdir(parents=True)
        (tmp_path / "sysfs" / f"neuron{number}" / "core_count").write_text(f"{cores}\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / f"neuron{number}").touch()
    (tmp_path / "dev" / "neuron_misc").touch()
    assert (device.device_count(Hardware.NEURON), device.missing_device(Hardware.NEURON)) == (3, "")
    assert device.device_memory(Hardware.NEURON, 1) == 32 * GIB
    device.use_device(Hardware.NEURON, 1)
    assert os.environ[neuron.VISIBLE] == "2-3"


def test_intel_devices_are_counted_by_class_and_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intel, "_CLASSES", tmp_path)
    assert "no Intel GPU" in device.missing_device(Hardware.INTEL_GPU)
    for place, vendor in (("drm/renderD128", "0x10de"), ("drm/renderD129", "0x8086"), ("accel/accel0", "0x8086")):
        (tmp_path / place / "device").mkdir(parents=True)
        (tmp_path / place / "device" / "vendor").write_text(f"{vendor}\n")
    for hardware in (Hardware.INTEL_GPU, Hardware.INTEL_NPU):
        assert (device.device_count(hardware), device.missing_device(hardware)) == (1, "")
        device.use_device(hardware, 0)
        with pytest.raises(OperatorError, match="only the first"):
            device.use_device(hardware, 1)
