"""ONNX file of a decoder with its settings, and how it is recognised, written and checked without executing it."""

import mmap
from pathlib import Path
from typing import Any, Final

import msgspec
import onnx

from registry.pipeline.adaptation.adapt import refuse_code, write_model
from registry.pipeline.adaptation.batch import inputs_of
from registry.pipeline.adaptation.graph import load_graph, load_weights, shape_of, widen_bf16
from runtimes.decoder.layout import is_decoder, read_layout
from runtimes.decoder.prompts import PromptReader
from runtimes.decoder.settings import METADATA, DecoderSettings, read_settings

_PAST: Final = b"past_key_values."
"""Bytes in the file of each decoder: names are plain text in ONNX files."""


def is_decoder_file(file: Path) -> bool:
    """Return true if an ONNX file, or a pack, is the graph of a decoder with a cache; blocks."""
    with file.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as found:
        if found.find(_PAST) < 0:
            return False
    return is_decoder([value.name for value in inputs_of(load_graph(file).graph)])


def write_decoder(file: Path, settings: DecoderSettings, target: Path) -> list[str]:
    """Write a copy of a graph with its weights and settings in one file; return its changes in words."""
    model: Any = onnx.load(file, load_external_data=False)
    left = load_weights(model, file.parent)
    notes = ["BF16 weights were converted to FP32 without loss"] if widen_bf16(model) else []
    onnx.helper.set_model_props(model, {METADATA: msgspec.json.encode(settings).decode()})
    write_model(model, file, target, left)
    return notes


def check_decoder(file: Path) -> None:
    """Check the graph and the settings of a decoder's file.

    Raises:
        InvalidRequest: it cannot be served; the message says why.
        OperatorError: the package `tokenizers` is not installed.
    """
    model = load_graph(file)
    refuse_code(model, file)
    shapes = {value.name: shape_of(value) for value in inputs_of(model.graph)}
    read_layout(shapes, [value.name for value in model.graph.output])
    PromptReader(read_settings({entry.key: entry.value for entry in model.metadata_props}), 1)
