"""Bench of `worker` with the other available runtimes: OpenVINO, and those of torch in torch's environment.

All compute the zoo's ResNet with one thread, each at its own best batch size.
"""

import asyncio
import tempfile
from pathlib import Path
from shutil import which
from typing import Final

from rich.console import Console

from bench.core.figures import Figure
from bench.core.system import SystemUnderTest
from bench.throughput.torch_program import write_program
from bench.throughput.worker import MODEL, compare
from registry.pipeline.generators.aot import compile_ahead
from runtimes.catalog import find_runtime
from schemas.hardware import Hardware

_RUNTIMES: Final = ("openvino", "torch-eager", "torch-compile", "torch-aot")
_COMPILED: Final = ("torch-compile", "torch-aot")
"""Runtimes that need a C++ compiler."""


async def measure(system: SystemUnderTest, broker: str, console: Console) -> list[Figure]:
    """Measure each available runtime; log the reason for each other one."""
    figures: list[Figure] = []
    for runtime in _RUNTIMES:
        if missing := _missing(runtime):
            console.log(f"no figure of {runtime}: {missing}", markup=False)
            continue
        with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
            artifact = await asyncio.to_thread(_artifact, runtime, Path(folder))
            figures += await compare(system.kafka, broker, f"mnist-resnet by {runtime}", runtime, artifact)
    return figures


def _missing(runtime: str) -> str:
    if runtime in _COMPILED and not (which("c++") or which("g++")):
        return "no C++ compiler on this machine"
    return find_runtime(runtime).availability(Hardware.CPU).reason


def _artifact(runtime: str, folder: Path) -> Path:
    if not runtime.startswith("torch"):
        return MODEL
    program = folder / "program"
    write_program(MODEL, program)
    if runtime == "torch-aot":
        compile_ahead(program, folder / "compiled", Hardware.CPU)
        return folder / "compiled"
    return program
