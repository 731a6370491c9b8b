"""Bench of `worker` with the other available runtimes: OpenVINO, and those of torch in torch's environment.

All compute the zoo's ResNet with one thread, each at its own best batch size. torch computes it as a program of
`torch.export`, with the weights of its ONNX file.
"""

import asyncio
import tempfile
from pathlib import Path
from shutil import which
from typing import Any, Final

import onnx
from onnx import numpy_helper
from rich.console import Console

from bench.core.figures import Figure
from bench.core.system import SystemUnderTest
from bench.throughput.worker import MODEL, compare
from registry.pipeline.generators.torch import compile_ahead
from runtimes.catalog import find_runtime
from runtimes.torch.exported_archive import make_safe
from runtimes.torch.program import import_torch
from schemas.hardware import Hardware

_RUNTIMES: Final = ("openvino", "torch-eager", "torch-compile", "torch-aot")
_COMPILED: Final = ("torch-compile", "torch-aot")
"""Runtimes that need a C++ compiler."""
_RESIDUAL = {3: 1, 6: 4}
"""Residual connections: number of a convolution to the number of the earlier one whose output is added."""
_MOST = 1024


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


def write_program(model: Path, target: Path) -> None:
    """Write the ResNet of an ONNX file as a program for batches of any size; blocks for seconds."""
    torch = import_torch()
    network = _network(torch, onnx.load(model))
    batch = torch.export.Dim("batch", min=1, max=_MOST)
    program = torch.export.export(network.eval(), (torch.zeros(2, 1, 28, 28),), dynamic_shapes={"input": {0: batch}})
    plain = target.with_suffix(".pt2")
    torch.export.save(program, plain)
    make_safe(plain, target, ["logits"])


def _network(torch: Any, model: Any) -> Any:
    strides = [_strides(node) for node in model.graph.node if node.op_type == "Conv"]
    weights = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    convolutions = [[weights[name] for name in node.input[1:]] for node in model.graph.node if node.op_type == "Conv"]
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")

    class ResNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tensors = torch.nn.ParameterList([tensor for pair in convolutions for tensor in pair])
            self.last = torch.nn.ParameterList([weights[name] for name in gemm.input[1:]])

        def forward(self, input: Any) -> Any:  # noqa: A002 - the name of the model's input
            functional = torch.nn.functional
            values, passed = input, list[Any]()
            for number, stride in enumerate(strides):
                weight, bias = self.tensors[2 * number], self.tensors[2 * number + 1]
                values = functional.conv2d(values, weight, bias, stride, padding=1)
                if number in _RESIDUAL:
                    values = values + passed[_RESIDUAL[number]]
                values = functional.relu(values)
                passed.append(values)
            return functional.linear(values.mean(dim=(2, 3)), *self.last)

    return ResNet()


def _strides(node: Any) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == "strides"), [1, 1])
