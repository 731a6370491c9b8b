"""Quantises language models in GGUF files, by llama.cpp's own package for such files, `gguf`.

The package quantises to the simple formats of one scale for each 32 weights. The formats of nested scales, such as
Q4_K, need llama.cpp's program, which the wheels lack; a file that has such a format is registered as it is.
"""

import importlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from registry.recipes import NotApplicable

_BLOCK: Final = 32
_FORMATS: Final = {"q8-0": "Q8_0", "q4-0": "Q4_0"}
_SELF_WRITTEN: Final = ("GGUF.", "general.architecture")
"""Beginnings of the names of metadata that the package writes itself."""
_OF_FORMAT: Final = ("general.file_type", "general.quantization_version")


def requantise(source: Path, target: Path, precision: str) -> None:
    """Write a model with its matrices in another format.

    Raises:
        NotApplicable: a format of the source cannot be read.
    """
    gguf: Any = importlib.import_module("gguf")
    name = _FORMATS[precision]
    with copied_gguf(source, target, left_out=_OF_FORMAT) as (reader, writer):
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{name}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for tensor in reader.tensors:
            data, kind = _converted(gguf, tensor, gguf.GGMLQuantizationType[name])
            writer.add_tensor(tensor.name, data, raw_dtype=kind)


@contextmanager
def copied_gguf(source: Path, target: Path, left_out: Sequence[str] = ()) -> Generator[tuple[Any, Any]]:
    """Copy the metadata of a file, but for names that begin as `left_out`; write the copy at the end of the context.

    Yields the reader of the source and the writer of the copy, by the package `gguf`. The context adds the tensors.
    """
    gguf: Any = importlib.import_module("gguf")
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith((*_SELF_WRITTEN, *left_out)):
            kind, *of = field.types
            writer.add_key_value(field.name, field.contents(), kind, sub_type=of[-1] if of else None)
    yield reader, writer
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _converted(gguf: Any, tensor: Any, wanted: Any) -> tuple[Any, Any]:
    """Return the data and the format of a tensor: matrices in the wanted format, vectors as they are."""
    kind = tensor.tensor_type
    if len(tensor.shape) < 2 or int(tensor.shape[0]) % _BLOCK or kind == wanted:
        return tensor.data, kind
    try:
        numbers = gguf.quants.dequantize(tensor.data, kind)
    except NotImplementedError as error:
        raise NotApplicable(f"its format {kind.name} cannot be converted") from error
    return gguf.quants.quantize(numbers, wanted), wanted
