"""CUDA devices according to the driver; no package is needed.

The driver numbers only the devices that the environment leaves visible, so a process with one visible device uses
number 0. NVML numbers all devices of the machine, so it is queried by PCI bus address.

Tested on a machine without such a device: beyond "no device", only against stand-ins of the two libraries.
"""

import ctypes
import os
from typing import Any, Final

from runtimes.protocol import Availability

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
DRIVER: Final = "libcuda.so.1"
_NVML: Final = "libnvidia-ml.so.1"
_NAME_LENGTH: Final = 100
_BUS_ID_LENGTH: Final = 32


class _Memory(ctypes.Structure):
    """Layout of `nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def availability() -> Availability:
    """Return an availability that is true if a CUDA driver and at least one device are present."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Availability(False, f"no CUDA driver ({DRIVER}) on this machine")
    if driver.cuInit(0) != 0:
        return Availability(False, "the CUDA driver cannot be initialised; see nvidia-smi")
    return Availability(True) if _count(driver) else Availability(False, "the CUDA driver sees no device")


def device_count() -> int:
    """Return the number of devices that this process may use."""
    return _count(ctypes.CDLL(DRIVER)) if availability().available else 0


def use_device(number: int) -> None:
    """Leave only device `number` visible; call before anything in this process initialises the driver."""
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    os.environ[VISIBLE] = visible[number] if number < len(visible) else str(number)


def device_name(index: int = 0) -> str:
    """Return the product name of a device; requires an available device."""
    driver = ctypes.CDLL(DRIVER)
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    driver.cuDeviceGetName(name, _NAME_LENGTH, _device(driver, index))
    return name.value.decode()


def memory_used(index: int = 0) -> int:
    """Return the bytes in use on the device by all processes; requires an available device."""
    return int(_memory(index).used)


def memory_total(index: int = 0) -> int:
    """Return the bytes of the device's memory; requires an available device."""
    return int(_memory(index).total)


def _count(driver: Any) -> int:
    count = ctypes.c_int(0)
    return count.value if driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def _device(driver: Any, index: int) -> ctypes.c_int:
    device = ctypes.c_int(0)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    return device


def _memory(index: int) -> _Memory:
    driver, nvml = ctypes.CDLL(DRIVER), ctypes.CDLL(_NVML)
    bus_id = ctypes.create_string_buffer(_BUS_ID_LENGTH)
    driver.cuDeviceGetPCIBusId(bus_id, _BUS_ID_LENGTH, _device(driver, index))
    handle, memory = ctypes.c_void_p(), _Memory()
    nvml.nvmlInit_v2()
    nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id, ctypes.byref(handle))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return memory
