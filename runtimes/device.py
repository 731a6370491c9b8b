"""Tells which devices are here, exactly which, and how much memory they have, for each hardware type alike.

Latencies measured on one model of CPU do not hold on another. A process uses one device: the environment hides the
others from whatever library it loads, so nothing else has to know a number.
"""

import platform
from pathlib import Path
from typing import Final, Protocol

import psutil

from runtimes import cuda, intel, neuron
from runtimes.protocol import Availability
from schemas.hardware import Hardware

_CPUINFO: Final = Path("/proc/cpuinfo")


class _Driver(Protocol):
    """What is asked of the devices of one hardware type, by whichever module knows them."""

    def availability(self) -> Availability: ...
    def device_count(self) -> int: ...
    def use_device(self, number: int, /) -> None: ...
    def memory_total(self, number: int = 0, /) -> int: ...


def missing_device(hardware: str) -> str:
    """Why this machine has no device of a hardware type; empty if it has."""
    if hardware == Hardware.CPU:
        return ""
    return _driver(hardware).availability().reason


def device_count(hardware: str) -> int:
    """Number of devices of a hardware type; the cores of a machine are one."""
    if hardware == Hardware.CPU:
        return 1
    return _driver(hardware).device_count()


def use_device(hardware: str, number: int) -> None:
    """Hide all devices but this one from this process; before any library that uses them is loaded."""
    if hardware != Hardware.CPU:
        _driver(hardware).use_device(number)


def device_memory(hardware: str, number: int = 0) -> int:
    """Bytes of memory that variants on a device can have; where there is no such device, the machine's."""
    if hardware == Hardware.CPU or missing_device(hardware):
        return psutil.virtual_memory().total
    return _driver(hardware).memory_total(number)


def memory_in_use(hardware: str) -> int:
    """Bytes of that memory in use: on a CPU by this process, on a GPU by all; 0 where nothing tells."""
    if hardware == Hardware.CUDA and not missing_device(hardware):
        return cuda.memory_used()
    return psutil.Process().memory_info().rss if hardware == Hardware.CPU else 0


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


def computes_bf16() -> bool:
    """Whether this CPU multiplies in BF16 itself; others would convert, and gain nothing."""
    return bool({"avx512_bf16", "amx_bf16"}.intersection(_cpu_field("flags").split()))


def computes_fp16() -> bool:
    """Whether this CPU multiplies in FP16 itself."""
    return bool({"avx512_fp16", "amx_fp16"}.intersection(_cpu_field("flags").split()))


def _driver(hardware: str) -> _Driver:
    drivers: dict[str, _Driver] = {
        Hardware.CUDA: cuda, Hardware.NEURON: neuron, Hardware.INTEL_GPU: intel.GPU, Hardware.INTEL_NPU: intel.NPU,
    }  # fmt: skip
    return drivers[hardware]


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
