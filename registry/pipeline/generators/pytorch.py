"""ONNX from an exported program, by torch's own exporter."""

import importlib.util
from pathlib import Path

import msgspec

from registry.plan import NotApplicable
from runtimes.pytorch import OUTPUTS_FILE, import_torch, input_names


def to_onnx(source: Path, target: Path) -> None:
    """Convert a program that was made safe; inputs and outputs keep their names, the batch stays variable.

    Raises:
        NotApplicable: torch's exporter needs onnxscript, which is not installed.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise NotApplicable("torch converts to ONNX only where onnxscript is installed: pip install onnxscript")
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
