"""ONNX from an exported program, by torch's own exporter."""

from pathlib import Path

from runtimes.pytorch import import_torch, input_names, load_program


def to_onnx(source: Path, target: Path) -> None:
    """Convert a safe program; inputs and outputs keep their names, and the batch stays variable."""
    torch = import_torch()
    program, outputs = load_program(source)
    positional, named = input_names(program)
    torch.onnx.export(
        program,
        f=target,
        input_names=[*positional, *named],
        output_names=outputs,
        external_data=False,
        verbose=False,
    )
