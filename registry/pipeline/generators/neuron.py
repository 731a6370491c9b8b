"""Graphs for AWS Inferentia, by torch-neuron (Inf1) or torch-neuronx (Inf2), for batches of one size.

Both trace torch modules. Torch-neuron requires a torch without exported programs, so onnx2torch converts the ONNX file
to a module for both.
"""

import importlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from registry.samples import Arrays, take_rows
from runtimes.torch_neuron import NAMES_FILE, GraphNames


def compile_for_neuron(source: Path, target: Path, package: str, batch: int, samples: Arrays) -> None:
    """Trace an ONNX model with rows of the samples, and compile the trace with `package`."""
    torch: Any = importlib.import_module("torch")
    compiler: Any = importlib.import_module(package)
    module = importlib.import_module("onnx2torch").convert(str(source)).eval()
    names = _names(source, batch)
    rows = take_rows(samples, 0, batch)
    examples = tuple(torch.from_numpy(np.ascontiguousarray(rows[name])) for name in names.inputs)
    graph = compiler.trace(module, examples)
    torch.jit.save(graph, str(target), _extra_files={NAMES_FILE: msgspec.json.encode(names).decode()})


def _names(source: Path, batch: int) -> GraphNames:
    graph = onnx.load(source, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights]
    return GraphNames(inputs=inputs, outputs=[value.name for value in graph.output], batch=batch)
