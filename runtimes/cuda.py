"""Whether this machine has a CUDA device, asked of the driver itself: no package is needed for the question."""

import ctypes

from runtimes.protocol import Availability

_DRIVER = "libcuda.so.1"


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
