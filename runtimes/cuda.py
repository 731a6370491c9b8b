"""CUDA devices as the driver itself reports them: no package is needed for these questions.

Written after the driver API's and NVML's documentation; the machine it was written on has no such device, so beyond
"there is none" it has not run yet.
"""

import ctypes
from typing import Final

from runtimes.protocol import Availability

_DRIVER: Final = "libcuda.so.1"
_NVML: Final = "libnvidia-ml.so.1"
_NAME_LENGTH: Final = 100


class _Memory(ctypes.Structure):
    """Layout of `nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def availability() -> Availability:
    """Whether a CUDA driver and at least one device are here."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return Availability(False, f"no CUDA driver ({_DRIVER}) on this machine")
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return Availability(False, "the CUDA driver is here but cannot be initialised; see nvidia-smi")
    return Availability(True) if count.value else Availability(False, "the CUDA driver sees no device")


def device_name(index: int = 0) -> str:
    """Product name of a device; only where `availability` says there is one."""
    driver = ctypes.CDLL(_DRIVER)
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    device = ctypes.c_int(0)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_LENGTH, device)
    return name.value.decode()


def memory_used(index: int = 0) -> int:
    """Bytes in use on the device, by all processes; only where `availability` says there is one."""
    nvml = ctypes.CDLL(_NVML)
    handle, memory = ctypes.c_void_p(), _Memory()
    nvml.nvmlInit_v2()
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return int(memory.used)
