"""Tells exactly which device this is: latencies measured on one model of CPU do not hold on another."""

import platform
from pathlib import Path
from typing import Final

from runtimes import cuda
from schemas.hardware import Hardware

_CPUINFO: Final = Path("/proc/cpuinfo")


def device_name(hardware: str) -> str:
    """Model name of this machine's device of a hardware type, e.g. `AMD EPYC 9R14`; where there is none, the type."""
    if hardware == Hardware.CUDA and cuda.availability().available:
        return cuda.device_name()
    if hardware != Hardware.CPU:
        return hardware
    return _cpu_field("model name") or platform.processor() or platform.machine()


def int8_saturates() -> bool:
    """Whether sums of INT8 products overflow on this CPU: x86 adds two of them in 16 bits, unless it has VNNI."""
    flags = _cpu_field("flags").split()
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni"}.intersection(flags)


def _cpu_field(name: str) -> str:
    """What Linux says of the first CPU; empty if it does not."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
