"""Workers of this machine as named by `infaas up --worker TYPE:NUMBER`, with their device, cores and memory.

`cpu:2` is a worker with two cores of its own, `cuda:0` a worker that owns the first GPU, `neuron:1` a worker that owns
the second Inferentia chip. Devices and runtimes are checked before anything starts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from process.cpus import usable_cores, usable_cpus
from process.memory import total_memory
from runtimes.catalog import all_runtimes
from runtimes.device import device_count, device_memory, missing_device
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.worker_names import worker_name

_WORKER: Final = re.compile(r"([a-z]+)(?::(\d{1,4}))?")
_EXAMPLES: Final = "cpu:2 (two cores), cuda:0 (the first GPU) or neuron:0 (the first Inferentia chip)"


class LocalWorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Device, cores and memory of one worker process."""

    hardware: Hardware = Hardware.CPU
    device: int | None = None
    """Index of the accelerator; None for a CPU."""
    cores: int = 1
    cpus: tuple[int, ...] = ()
    """Indexes of the cores that are reserved for the worker; empty: any core of the machine."""
    memory_bytes: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of the worker process, as environment variables."""
        found = {
            "INFAAS_WORKERS_HARDWARE": self.hardware.value,
            "INFAAS_WORKERS_CORES": str(self.cores),
            "INFAAS_WORKERS_MEMORY_BYTES": str(self.memory_bytes),
        }
        if self.device is not None:
            found["INFAAS_WORKERS_DEVICE"] = str(self.device)
        if self.cpus:
            found["INFAAS_WORKERS_CPUS"] = msgspec.json.encode(self.cpus).decode()
        return found


def name_workers(specs: Sequence[LocalWorkerSpec], prefix: str) -> dict[str, LocalWorkerSpec]:
    """Return the workers by name: `prefix`, hardware and a number per hardware type, in order."""
    counts = Counter[str]()
    named: dict[str, LocalWorkerSpec] = {}
    for spec in specs:
        named[worker_name(spec.hardware, counts[spec.hardware], prefix)] = spec
        counts[spec.hardware] += 1
    return named


def parse_workers(wanted: Sequence[str], *, oversubscribe: bool = False) -> tuple[LocalWorkerSpec, ...]:
    """Divide the cores and memory of this machine among the named workers, for example `cpu:2` and `cuda:0`.

    Raises:
        OperatorError: a name is invalid or repeated, its device or a runtime for it is missing, or there are too few
            cores.
    """
    parsed = [_parse(text) for text in wanted]
    for text, times in Counter(wanted).items():
        if times > 1 and not text.startswith(Hardware.CPU):
            raise OperatorError(f"--worker {text} is named {times} times: a device belongs to one worker")
    free, cores = usable_cpus(), usable_cores()
    needed = sum(number for hardware, number in parsed if hardware is Hardware.CPU)
    if needed > cores and not oversubscribe:
        raise OperatorError(
            f"the CPU workers need {needed} cores, this machine has {cores}: name fewer, or allow it by --oversubscribe"
        )
    memory_bytes = total_memory() // max(sum(h is Hardware.CPU for h, _ in parsed), 1)
    found: list[LocalWorkerSpec] = []
    for hardware, number in parsed:
        if hardware is Hardware.CPU:
            own, free = (free[:number], free[number:]) if needed <= len(free) else ([], free)
            needed -= len(own)
            found.append(LocalWorkerSpec(cores=number, cpus=tuple(own), memory_bytes=memory_bytes))
        else:
            check_device(hardware, number)
            found.append(
                LocalWorkerSpec(hardware=hardware, device=number, memory_bytes=device_memory(hardware, number))
            )
    return tuple(found)


def check_device(hardware: Hardware, number: int) -> None:
    """Check that a device exists on this machine, with a runtime that supports it.

    Raises:
        OperatorError: the device or the runtime is missing; the message names it.
    """
    what, reason = f"--worker {hardware}:{number}", missing_device(hardware)
    if reason:
        raise OperatorError(f"{what}: {reason}")
    count = device_count(hardware)
    if number >= count:
        raise OperatorError(f"{what}: this machine has {count} of them, numbered from 0")
    found = [runtime.availability(hardware) for runtime in all_runtimes() if hardware in runtime.hardware]
    if not any(available.available for available in found):
        reasons = dict.fromkeys(available.reason for available in found)
        raise OperatorError(f"{what}: no installed runtime supports it: {'; '.join(reasons)}")


def _parse(text: str) -> tuple[Hardware, int]:
    match = _WORKER.fullmatch(text)
    if match is None or match[1] not in Hardware.__members__.values():
        raise OperatorError(f"--worker {text!r} is not a worker: write {_EXAMPLES}")
    hardware = Hardware(match[1])
    if match[2] is None and hardware is Hardware.CPU:
        raise OperatorError(f"--worker {text}: add the number of cores, e.g. cpu:2")
    number = int(match[2] or 0)
    if hardware is Hardware.CPU and number < 1:
        raise OperatorError(f"--worker {text}: a CPU worker has at least one core")
    return hardware, number
