"""Hardware types, and their default prices.

The defaults are list prices of on-demand EC2 machines in us-east-1, as in the evaluation of INFaaS: m5.2xlarge (8 vCPU,
0.384 USD/h) per vCPU, p3.2xlarge (one V100), inf1.2xlarge (one Inferentia chip). No provider rents out the GPU or NPU
of an Intel CPU; it is priced at half of an m5.2xlarge. A worker's price setting overrides the default.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple, Self


class Hardware(StrEnum):
    """Type of the device that a worker owns."""

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
    """Price of a core. Batches occupy whole slots; an accelerator counts as one core."""

    usd_per_hour: float
    slot_threads: int = 1
    """Cores of a slot."""

    @classmethod
    def of(cls, hardware: str, slots: int, slot_threads: int, worker_per_hour: float) -> Self:
        """Compute the price of a core from the hourly price in USD of a worker with `slots` slots."""
        return cls(worker_per_hour / cores_of(hardware, slots, slot_threads), slot_threads)


def slots_of(hardware: str, cores: int, threads: int) -> int:
    """Return the slots of a worker with `cores` cores and `threads` cores per slot; an accelerator has one."""
    return cores // threads if hardware == Hardware.CPU else 1


def slots_taken(hardware: str, threads: int, slot_threads: int) -> int:
    """Return the slots of `slot_threads` cores that a batch of `threads` threads occupies; 1 on an accelerator."""
    return max(math.ceil(threads / slot_threads), 1) if hardware == Hardware.CPU else 1


def cores_of(hardware: str, slots: int, slot_threads: int) -> int:
    """Return the number of cores that batches can use on a worker; 1 for an accelerator, where it has no meaning."""
    return slots * slot_threads if hardware == Hardware.CPU else 1


def cores_taken(hardware: str, threads: int, slot_threads: int) -> int:
    """Return the number of cores that a batch blocks, in whole slots; 1 on an accelerator."""
    return cores_of(hardware, slots_taken(hardware, threads, slot_threads), slot_threads)


def list_price(hardware: str, cores: int) -> float:
    """Return the default price of a worker or slot with `cores` cores, in USD per hour.

    Unknown hardware, e.g. of a newer worker, has the highest known price.
    """
    price = SLOT_PRICE_PER_HOUR.get(hardware, max(SLOT_PRICE_PER_HOUR.values()))
    return price * cores if hardware == Hardware.CPU else price


def cost_per_1000(batch_s: float, slot_price_per_hour: float) -> float:
    """Return the USD of 1000 queries that each occupy a slot for `batch_s` seconds."""
    return batch_s * slot_price_per_hour / 3.6


def after_batch(free: Sequence[float], seconds: float, width: int, now: float = 0.0) -> list[float]:
    """Return the time at which each slot is free after a batch of `seconds` in the `width` slots that are free first.

    The batch begins when all of these are free, and not before `now`. `free` and the result contain one time per slot,
    in ascending order.
    """
    width = min(width, len(free))
    ends = max(free[width - 1], now) + seconds
    return sorted([*free[width:], *[ends] * width])


def priced_unit(*, generative: bool) -> str:
    """Return the number and the kind of what a cost is stated for."""
    return "1000 tokens" if generative else "1000 queries"


def usd(amount: float) -> str:
    """Format an amount with two significant digits and a unit that keeps it short: `1.2 USD`, `13 µUSD`, `38 nUSD`."""
    unit, size = ("nUSD", 1e-9) if abs(amount) < 1e-6 else ("µUSD", 1e-6) if abs(amount) < 1e-3 else ("USD", 1.0)
    return f"{Decimal(f'{amount / size:.2g}'):f} {unit if amount else 'USD'}"
