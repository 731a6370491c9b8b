"""Tests of the layout of a decoder's graph."""

from collections.abc import Sequence

import pytest

from runtimes.decoder.layout import DecoderLayout, is_decoder, read_layout
from schemas.errors import InvalidRequest

Shapes = dict[str, Sequence[int | str | None]]
PAST = ("past_key_values.0.key", "past_key_values.0.value")
PRESENT = ("present.0.key", "present.0.value")
TOKENS: Shapes = {"input_ids": ["batch", "tokens"], "attention_mask": ["batch", "all"]}
CACHE: Shapes = {name: ["batch", 2, None, 32] for name in PAST}


def test_layout_names_keys_and_their_shapes() -> None:
    found = read_layout(TOKENS | CACHE, ["logits", *PRESENT])
    assert found == DecoderLayout(PAST, PRESENT, ((2, 32), (2, 32)), has_positions=False)
    assert read_layout(TOKENS | CACHE | {"position_ids": ["b", "t"]}, ["logits", *PRESENT]).has_positions


def test_decoder_has_tokens_and_keys() -> None:
    assert is_decoder(TOKENS | CACHE)
    assert not is_decoder(TOKENS)
    assert not is_decoder(CACHE)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"use_cache_branch": [1]}, "merged graph of an older exporter; export the model by `optimum-cli"),
        ({"encoder_hidden_states": ["b", "t", 8]}, "half of a model with an encoder"),
        ({"pixel_values": ["b", 3, 8, 8]}, "'pixel_values': only a decoder's own inputs"),
        ({"past_key_values.1.key": ["b", 2, "t", 32]}, "no 'present.1.key'"),
        ({PAST[0]: [1, 2, "t", 32]}, r"\[1, 2, 't', 32\] instead of \[batch, heads, tokens, size\]"),
        ({PAST[0]: ["b", 2, "t"]}, "instead of"),
        ({PAST[0]: ["b", 2, 16, 32]}, "instead of"),
    ],
)
def test_layout_refuses_other_graphs(inputs: Shapes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_layout(TOKENS | CACHE | inputs, ["logits", *PRESENT])


def test_layout_refuses_graph_without_logits_or_mask() -> None:
    with pytest.raises(InvalidRequest, match="no 'logits'"):
        read_layout(TOKENS | CACHE, PRESENT)
    with pytest.raises(InvalidRequest, match="no 'attention_mask'"):
        read_layout({"input_ids": ["b", "t"]} | CACHE, ["logits", *PRESENT])
