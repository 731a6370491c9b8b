"""Native code from an exported program, by AOTInductor: it compiles C++ for minutes now, and loads quickly later."""

import importlib
from pathlib import Path
from typing import Any, Final

from runtimes.device import device_name
from runtimes.pytorch import import_torch, input_names, load_program
from runtimes.torch_aot import CompiledInput, CompiledNames, write_names
from schemas.hardware import Hardware

_SIZE: Final = 2
"""Size for a variable dimension: 0 and 1 would be compiled as special cases."""


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
