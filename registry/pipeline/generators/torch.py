"""Conversions by torch: ONNX by its exporter, native code by AOTInductor, and graphs for AWS Inferentia.

AOTInductor compiles C++ for minutes now, and the code loads quickly later. Graphs for Inferentia are compiled by
torch-neuron (Inf1) or torch-neuronx (Inf2), for batches of one size. Both trace torch modules. Torch-neuron requires a
torch without exported programs, so onnx2torch converts the ONNX file to a module for both.
"""

import importlib
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from registry.samples import Arrays, take_rows
from runtimes.device import device_name
from runtimes.torch.aot import CompiledInput, CompiledNames, write_names
from runtimes.torch.inferentia import NAMES_FILE, GraphNames
from runtimes.torch.program import import_torch, input_names, load_program
from schemas.hardware import Hardware

_SIZE: Final = 2
"""Size for a variable dimension: 0 and 1 would be compiled as special cases."""


def to_onnx(source: Path, target: Path) -> None:
    """Convert a safe program; inputs and outputs keep their names, and the batch stays variable."""
    torch = import_torch()
    program, outputs = load_program(source)
    positional, named = input_names(program)
    torch.onnx.export(
        program, f=target, input_names=[*positional, *named], output_names=outputs, external_data=False, verbose=False
    )


def compile_ahead(source: Path, target: Path, hardware: str) -> None:
    """Compile a safe program for this machine's device of a hardware type; the batch stays variable."""
    torch = import_torch()
    program, outputs = load_program(source)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    positional, named = input_names(program)
    inputs = [
        _compiled_input(torch, name, values[node])
        for name, node in zip([*positional, *named], program.graph_signature.user_inputs, strict=True)
    ]
    examples = [_example(torch, program, values[node]) for node in program.graph_signature.user_inputs]
    count = len(positional)
    program.example_inputs = tuple(examples[:count]), dict(zip(named, examples[count:], strict=True))
    if hardware == Hardware.CUDA:
        program = torch.export.passes.move_to_device_pass(program, "cuda")
    inductor: Any = importlib.import_module("torch._inductor")
    package = target.with_suffix(".pt2")  # AOTInductor accepts no other suffix
    once = {"aot_inductor.precompile_headers": False}  # they pay only for many programs with one cache
    inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=once)
    package.replace(target)
    names = CompiledNames(
        positional=inputs[:count], named=inputs[count:], outputs=outputs, device=device_name(hardware)
    )
    write_names(target, names)


def _compiled_input(torch: Any, name: str, value: Any) -> CompiledInput:
    dtype = str(torch.empty(0, dtype=value.dtype).numpy().dtype)
    return CompiledInput(name, dtype, [size if isinstance(size, int) else -1 for size in value.shape])


def _example(torch: Any, program: Any, value: Any) -> Any:
    """Return an input of a size that the program accepts; the compiler needs one, and the safe copy contains none."""
    bounds = program.range_constraints
    sizes = [size if isinstance(size, int) else max(_SIZE, int(bounds[size.node.expr].lower)) for size in value.shape]
    return torch.zeros(sizes, dtype=value.dtype)


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
    import onnx  # torch alone does not need it

    graph = onnx.load(source, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights]
    return GraphNames(inputs=inputs, outputs=[value.name for value in graph.output], batch=batch)
