"""Devices of this machine: presence, model name and memory, uniformly for all hardware types.

Latencies measured on one model of CPU do not hold on another, so the model name matters. A process uses one device: the
environment hides the others from all libraries, so no other code handles device numbers.
"""

import importlib.util
import platform
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol

import psutil

from runtimes import cuda, intel, neuron
from runtimes.protocol import Availability
from schemas.hardware import Hardware

_CPUINFO: Final = Path("/proc/cpuinfo")


class _Driver(Protocol):
    def availability(self) -> Availability: ...
    def device_count(self) -> int: ...
    def use_device(self, number: int, /) -> None: ...
    def memory_total(self, number: int = 0, /) -> int: ...


def missing_device(hardware: str) -> str:
    """Return the reason for which this machine has no device of a hardware type; empty if it has one."""
    if hardware == Hardware.CPU:
        return ""
    return _driver(hardware).availability().reason


def device_count(hardware: str) -> int:
    """Return the number of devices of a hardware type; all cores of a machine count as one."""
    if hardware == Hardware.CPU:
        return 1
    return _driver(hardware).device_count()


def use_device(hardware: str, number: int) -> None:
    """Hide all other devices from this process; call before any library that uses them is loaded."""
    if hardware != Hardware.CPU:
        _driver(hardware).use_device(number)


def device_memory(hardware: str, number: int = 0) -> int:
    """Return the bytes of a device's memory that variants can use; without such a device, the machine's memory."""
    if hardware == Hardware.CPU or missing_device(hardware):
        return psutil.virtual_memory().total
    return _driver(hardware).memory_total(number)


def memory_in_use(hardware: str) -> int:
    """Return the bytes of that memory in use: by this process on a CPU, by all on a GPU; 0 if unknown."""
    if hardware == Hardware.CUDA and not missing_device(hardware):
        return cuda.memory_used()
    return psutil.Process().memory_info().rss if hardware == Hardware.CPU else 0


def device_name(hardware: str) -> str:
    """Return the model name of this machine's device, e.g. `AMD EPYC 9R14`; without a device, the hardware type."""
    if hardware == Hardware.CUDA and cuda.availability().available:
        return cuda.device_name()
    if hardware != Hardware.CPU:
        return hardware
    return _cpu_field("model name") or platform.processor() or platform.machine()


def int8_saturates() -> bool:
    """Return true if sums of INT8 products overflow on this CPU: x86 adds two in 16 bits, unless it has VNNI."""
    flags = _cpu_field("flags").split()
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni"}.intersection(flags)


def computes_bf16() -> bool:
    """Return true if this CPU multiplies in BF16; other CPUs would convert, without a gain."""
    return bool({"avx512_bf16", "amx_bf16"}.intersection(_cpu_field("flags").split()))


def computes_fp16() -> bool:
    """Return true if this CPU multiplies in FP16."""
    return bool({"avx512_fp16", "amx_fp16"}.intersection(_cpu_field("flags").split()))


def _driver(hardware: str) -> _Driver:
    drivers: dict[str, _Driver] = {
        Hardware.CUDA: cuda, Hardware.NEURON: neuron, Hardware.INTEL_GPU: intel.GPU, Hardware.INTEL_NPU: intel.NPU,
    }  # fmt: skip
    return drivers[hardware]


def _cpu_field(name: str) -> str:
    """Return a field of the first CPU in Linux's cpuinfo; empty if it is missing."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def runtime_availability(name: str, hardware: str, on: Collection[str], missing: Callable[[], str]) -> Availability:
    """Return the availability of runtime `name`, which supports the hardware types `on`, with the reasons against it.

    `missing` returns a message about missing packages; empty: none is missing.
    """
    if hardware not in on:
        return Availability(False, f"runtime {name} does not run on {hardware}")
    reason = "; ".join(filter(None, (missing_device(hardware), missing())))
    return Availability(not reason, reason)


def missing_package(package: str, shown: str, extra: str) -> str:
    """Return a message if a package is not installed, without importing it; empty if it is installed."""
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"{shown} is not installed: pip install 'infaas[{extra}]'"
