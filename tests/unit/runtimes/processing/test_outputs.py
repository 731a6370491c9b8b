"""Tests of the specifications of outputs with processing."""

import pytest

from runtimes.processing.outputs import processed_outputs, with_token_axis
from schemas.errors import InvalidRequest
from schemas.rows.catalog import PoolTokens, Processing, Softmax, Tokenise, TopClasses
from schemas.signature import TensorSpec

TOKENS = TensorSpec(name="logits", datatype="FP32", shape=(-1, -1, 3), axes=("", "sequence", ""))
TEXT = TensorSpec(name="logits", datatype="FP32", shape=(-1, 3))
BEFORE = Tokenise(tokenizer="tokenizer.json")


def _outputs(spec: TensorSpec, *after: Softmax | TopClasses | PoolTokens) -> dict[str, tuple[int, ...]]:
    found = processed_outputs(Processing(before=BEFORE, after=after), [spec], "logits")
    return {one.name: one.shape for one in found}


def test_processed_outputs_add_lengths_to_sequences() -> None:
    assert _outputs(TEXT, TopClasses(labels="names")) == {"logits": (-1, 3), "label": (-1, 1)}
    assert _outputs(TOKENS) == {"logits": (-1, -1, 3), "lengths": (-1,)}
    assert _outputs(TOKENS, TopClasses(count=2)) == {"logits": (-1, -1, 3), "class": (-1, -1, 2), "lengths": (-1,)}
    labelled = _outputs(TOKENS, Softmax(), TopClasses(labels="names"))
    assert labelled == {"logits": (-1, -1, 3), "label": (-1, -1, 1), "lengths": (-1,), "offsets": (-1, -1, 2)}
    assert _outputs(TOKENS, PoolTokens()) == {"sentence_embedding": (-1, 3)}


@pytest.mark.parametrize(
    ("spec", "after", "said"),
    [
        (TEXT, (PoolTokens(),), r"pooling needs vectors of tokens.*'logits' is FP32 \[-1, 3\]"),
        (TOKENS, (PoolTokens(), Softmax()), "no step may follow the pooling"),
        (TensorSpec(name="logits", datatype="FP32", shape=(-1, 2, 3)), (Softmax(),), r"need FP32 scores of the shape"),
        (TEXT, (TopClasses(count=4),), "4 best classes are requested, but the model has 3"),
    ],
)
def test_processed_outputs_refuse_unsuitable_steps(
    spec: TensorSpec, after: tuple[Softmax | TopClasses | PoolTokens, ...], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        _outputs(spec, *after)


def test_processed_outputs_refuse_shared_name() -> None:
    lengths = TensorSpec(name="lengths", datatype="INT64", shape=(-1,))
    with pytest.raises(InvalidRequest, match="share the name 'lengths'"):
        processed_outputs(Processing(before=BEFORE), [TOKENS, lengths], "logits")


def test_with_token_axis_keeps_only_axis_of_tokens() -> None:
    square = TensorSpec(name="a", datatype="FP32", shape=(-1, -1, -1), axes=("", "tokens", "other"))
    assert with_token_axis([square], "tokens")[0].axes == ("", "sequence", "")
    assert with_token_axis([square], "")[0].axes == ()
