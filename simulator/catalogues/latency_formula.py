"""Latency of an architecture on a device: a roofline whose terms add, with constants fitted to published latencies.

    latency(b) = kernels * launch                                        a fixed time for each kernel
               + b * operations / (peak * efficiency)                    computation
               + (reads * weights + b * traffic * activations) / bandwidth   memory
               + b * input / copy                                        inputs to the memory of a GPU

The roofline is that of Williams, Waterman and Patterson (2009), which takes the larger of computation and memory; a
network's layers are bound by one or the other, so the terms of the whole add. The first term makes small batches
inefficient. `fit` finds the constants; `docs/catalogue.md` states the errors.
"""

from typing import Final

import msgspec

from simulator.catalogues.tables import ArchitectureFigures, Device

BYTES: Final = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Bytes of a weight and of an activation, by precision."""


class FormulaConstants(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the formula."""

    gpu_launch_us: float = 14.8
    """Microseconds of a kernel besides its work, on GPUs and Inferentia."""
    cpu_launch_us: float = 2.11
    gpu_traffic: float = 3.15
    """Times that an activation is moved between a GPU and its memory."""
    cpu_traffic: float = 1.26
    v100_efficiency: float = 0.732
    """Share of the peak that computation reaches."""
    t4_efficiency: float = 0.512
    a10g_efficiency: float = 0.458
    inf1_efficiency: float = 0.384
    cpu_efficiency: float = 0.857
    gpu_int8: float = 0.901
    """Efficiency of INT8 over that of FP16, on GPUs."""
    copy_gbs: float = 1.68
    """Inputs copied to a GPU, in 10^9 bytes a second."""
    served_ms: float = 1.32
    """Milliseconds that a server adds to a batch; part of published latencies that were measured at a server."""


FITTED: Final = FormulaConstants()


def latency_s(
    architecture: ArchitectureFigures,
    device: Device,
    precision: str,
    batch: int,
    constants: FormulaConstants = FITTED,
    *,
    copied: bool = True,
) -> float:
    """Return the seconds of one batch; without `copied`, the inputs lie in the memory of the device.

    Raises:
        ValueError: the device does not compute in this precision.
    """
    gpu = device.family == "gpu"
    launch_us = constants.cpu_launch_us if device.family == "cpu" else constants.gpu_launch_us
    operations = 2e9 * architecture.gmacs * batch
    elements = architecture.reads * architecture.params_m + _traffic(device, constants) * architecture.acts_m * batch
    seconds = launch_us * 1e-6 * architecture.kernels
    seconds += operations / (peak(device, precision) * _efficiency(device, precision, constants))
    seconds += elements * 1e6 * BYTES[precision] / (device.bandwidth_gbs * 1e9)
    return seconds + (architecture.input_mb * 1e-3 * batch / constants.copy_gbs if gpu and copied else 0.0)


def peak(device: Device, precision: str) -> float:
    """Return the published peak in operations a second.

    Raises:
        ValueError: the device does not compute in this precision.
    """
    rates = {"fp32": device.tflops_32, "fp16": device.tflops_16, "bf16": device.tflops_16, "int8": device.tops_8}
    rate = rates[precision]
    if rate is None:
        raise ValueError(f"{device.name} does not compute in {precision}")
    return rate * 1e12


def _traffic(device: Device, constants: FormulaConstants) -> float:
    """Return how often an activation is moved; those of Inferentia stay in the memory on its chip."""
    return {"cpu": constants.cpu_traffic, "gpu": constants.gpu_traffic, "neuron": 0.0}[device.family]


def _efficiency(device: Device, precision: str, constants: FormulaConstants) -> float:
    if device.family == "cpu":
        return constants.cpu_efficiency
    share: float = getattr(constants, f"{device.name}_efficiency")
    return share * constants.gpu_int8 if precision == "int8" else share
