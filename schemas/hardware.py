"""Hardware types and what they cost where nobody says otherwise.

List prices of on-demand EC2 machines, us-east-1, as in INFaaS's evaluation: m5.2xlarge (8 vCPU, 0.384 USD/h) per
vCPU, p3.2xlarge (one V100), inf1.2xlarge (one Inferentia chip). Nobody rents out the GPU or NPU in a CPU of Intel's: it
counts as half of that m5.2xlarge. A worker's own price setting replaces them.
"""

import math
from enum import StrEnum
from typing import Final, NamedTuple, Self


class Hardware(StrEnum):
    """The type of device a worker owns."""

    CPU = "cpu"
    CUDA = "cuda"
    NEURON = "neuron"
    INTEL_GPU = "intel-gpu"
    INTEL_NPU = "intel-npu"


SLOT_PRICE_PER_HOUR: Final[dict[str, float]] = {
    Hardware.CPU: 0.048,
    Hardware.CUDA: 3.06,
    Hardware.NEURON: 0.362,
    Hardware.INTEL_GPU: 0.192,
    Hardware.INTEL_NPU: 0.192,
}
"""USD per hour of one CPU thread, or of one accelerator."""


class CorePrice(NamedTuple):
    """Price of a core where whole slots are taken; an accelerator is one."""

    usd_per_hour: float
    slot_threads: int = 1
    """Cores that a slot has."""

    @classmethod
    def of(cls, hardware: str, slots: int, slot_threads: int, worker_per_hour: float) -> Self:
        """The price of a core of a worker with so many slots, which costs so much in all."""
        return cls(worker_per_hour / cores_of(hardware, slots, slot_threads), slot_threads)


def slots_of(hardware: str, cores: int, threads: int) -> int:
    """Slots of a worker with so many cores, of which a slot has `threads`; an accelerator is one."""
    return cores // threads if hardware == Hardware.CPU else 1


def slots_taken(hardware: str, threads: int, slot_threads: int) -> int:
    """Slots of `slot_threads` cores that one batch takes which computes on `threads`; of an accelerator it is one."""
    return max(math.ceil(threads / slot_threads), 1) if hardware == Hardware.CPU else 1


def cores_of(hardware: str, slots: int, slot_threads: int) -> int:
    """Cores that a batch may have to itself on a worker; of an accelerator that does not matter, and it is one."""
    return slots * slot_threads if hardware == Hardware.CPU else 1


def cores_taken(hardware: str, threads: int, slot_threads: int) -> int:
    """Cores that one batch keeps others from, whole slots; of an accelerator it is one."""
    return cores_of(hardware, slots_taken(hardware, threads, slot_threads), slot_threads)


def list_price(hardware: str, cores: int) -> float:
    """USD per hour of a worker, or of a slot, with so many cores, where nobody says otherwise.

    Hardware that is not known here, e.g. of a newer worker, is priced as the dearest that is.
    """
    price = SLOT_PRICE_PER_HOUR.get(hardware, max(SLOT_PRICE_PER_HOUR.values()))
    return price * cores if hardware == Hardware.CPU else price


def cost_per_1000(batch_s: float, slot_price_per_hour: float) -> float:
    """USD of 1000 queries that each occupy a slot for `batch_s` seconds."""
    return batch_s * slot_price_per_hour / 3.6
