"""Inputs and outputs of the ONNX graph of a decoder, as Hugging Face's exporter (optimum) names them. Pure.

* `input_ids`, `position_ids`, [batch, tokens]: the new tokens, and their places; the second may be missing.
* `attention_mask`, [batch, all tokens]: 1 for a token, 0 for padding.
* `past_key_values.N.key`, `.value`, [batch, heads, earlier tokens, size], for each layer N.
* `logits`, [batch, tokens, vocabulary]; `present.N.key`, `.value`, as the inputs with the new tokens.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from runtimes.processing.steps import IDS, MASK, POSITIONS
from schemas.errors import InvalidRequest

LOGITS: Final = "logits"
_PAST: Final = re.compile(r"past_key_values\.(\d+\.(?:key|value))")
_AXES: Final = 4
_INSTEAD: Final = "export the model by `optimum-cli export onnx --task text-generation-with-past`"
_KNOWN: Final = {
    "use_cache_branch": "it is the merged graph of an older exporter",
    "encoder_hidden_states": "it is half of a model with an encoder",
    "inputs_embeds": "it takes vectors instead of tokens",
}


class DecoderLayout(msgspec.Struct, frozen=True):
    """Layout of a decoder's graph."""

    past: tuple[str, ...]
    """Inputs with the keys and values of earlier tokens."""
    present: tuple[str, ...]
    """The output for each of these inputs."""
    shapes: tuple[tuple[int, int], ...]
    """Heads and size of each."""
    has_positions: bool
    """True if the places of tokens are an input. Otherwise the graph counts them from the length of the cache."""


def is_decoder(inputs: Collection[str]) -> bool:
    """Return true if a graph with these inputs is a decoder that takes earlier keys and values."""
    return IDS in inputs and any(map(_PAST.fullmatch, inputs))


def read_layout(inputs: Mapping[str, Sequence[int | str | None]], outputs: Collection[str]) -> DecoderLayout:
    """Return the layout of a graph, from the shapes of its inputs and the names of its outputs.

    Raises:
        InvalidRequest: a decoder of this kind cannot be served; the message says how to export it.
    """
    past = tuple(name for name in inputs if _PAST.fullmatch(name))
    present = tuple(_PAST.sub(r"present.\1", name) for name in past)
    unknown = sorted(set(inputs) - {IDS, MASK, POSITIONS, *past})
    if unknown:
        why = next((_KNOWN[name] for name in unknown if name in _KNOWN), "only a decoder's own inputs can be filled")
        raise InvalidRequest(f"the graph has the input {unknown[0]!r}: {why}; {_INSTEAD}")
    missing = [name for name in (IDS, MASK) if name not in inputs]
    missing += [name for name in (LOGITS, *present) if name not in outputs]
    if missing:
        raise InvalidRequest(f"the graph has no {missing[0]!r}: {_INSTEAD}")
    return DecoderLayout(past, present, tuple(_shape(name, inputs[name]) for name in past), POSITIONS in inputs)


def _shape(name: str, shape: Sequence[int | str | None]) -> tuple[int, int]:
    if len(shape) == _AXES:
        batch, heads, length, size = shape
        if isinstance(heads, int) and isinstance(size, int) and not (isinstance(batch, int) or isinstance(length, int)):
            return heads, size
    raise InvalidRequest(
        f"the graph's input {name!r} is {list(shape)} instead of [batch, heads, tokens, size] with a variable batch "
        f"and a variable number of tokens: {_INSTEAD}"
    )
