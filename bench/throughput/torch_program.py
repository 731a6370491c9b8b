"""The zoo's ResNet as a program of `torch.export`, with the weights of its ONNX file; needs torch."""

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from runtimes.exported_archive import make_safe
from runtimes.pytorch import import_torch

_RESIDUAL = {3: 1, 6: 4}
"""Residual connections: number of a convolution to the number of the earlier one whose output is added."""
_MOST = 1024


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
