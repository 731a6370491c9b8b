"""ONNX from an exported program, by torch's own exporter."""

from pathlib import Path

import msgspec

from runtimes.pytorch import OUTPUTS_FILE, import_torch, input_names


def to_onnx(source: Path, target: Path) -> None:
    """Convert a program that was made safe; inputs and outputs keep their names, the batch stays variable."""
    torch = import_torch()
    extra = {OUTPUTS_FILE: ""}
    with source.open("rb") as file:
        program = torch.export.load(file, extra_files=extra)
    positional, named = input_names(program)
    torch.onnx.export(
        program,
        f=target,
        input_names=[*positional, *named],
        output_names=msgspec.json.decode(extra[OUTPUTS_FILE], type=list[str]),
        external_data=False,
        verbose=False,
    )
