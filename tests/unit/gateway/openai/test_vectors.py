"""Tests of queries for vectors: inputs of every form, and the requests that they become."""

import msgspec
import numpy as np
import pytest

from gateway.openai.vectors import (
    check_dimensions,
    decode_vectors,
    encode_query,
    read_inputs,
    token_ids,
)
from schemas import headers as h
from schemas.errors import Internal, InvalidRequest
from schemas.oip import decode_request, encode_response
from schemas.openai import MOST_INPUTS
from schemas.result import OK, Result
from tests.openai_tasks import IDS, MASK, TEXT, an_encoder, classifier, encoded, served, vector_of

TEXTS = served(an_encoder("sentences"))
TOKENS = served(an_encoder("tokens", IDS, MASK, counts=False))


def a_result(value: bytes, fields: dict[str, str]) -> Result:
    return Result(id="q", status=OK, value=value, json_length=int(fields[h.JSON_LENGTH]))


@pytest.mark.parametrize(
    ("raw", "inputs"),
    [
        ('"a film"', ["a film"]),
        ('["a", "b"]', ["a", "b"]),
        ("[5, 6]", [[5, 6]]),
        ("[[5], [6, 7]]", [[5], [6, 7]]),
        ("[]", []),
    ],
)
def test_read_inputs_reads_every_form(raw: str, inputs: list[object]) -> None:
    assert read_inputs(msgspec.Raw(raw.encode())) == inputs


@pytest.mark.parametrize("raw", ["3", "null", '["a", 3]', '["a", [3]]', "[[], [3]]", "[3, [4]]", "[-1]", "[1.5]", "{}"])
def test_read_inputs_refuses_other_forms(raw: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^\$\.input: "):
        read_inputs(msgspec.Raw(raw.encode()))


def test_encode_query_of_texts_asks_for_vectors_and_counts() -> None:
    message = encode_query(TEXTS, ["a film", "two"], {"min_accuracy": 0.9})
    request = decode_request(message.value, message.json_length)
    assert request.inputs["text"].tolist() == [b"a film", b"two"]
    assert [output.name for output in request.outputs] == ["embedding", "tokens"]
    assert request.binary_output
    assert request.parameters["min_accuracy"] == 0.9


def test_encode_query_keeps_the_rank_of_the_input() -> None:
    wide = served(an_encoder("wide", msgspec.structs.replace(TEXT, shape=(-1, 1))))
    message = encode_query(wide, ["a", "b"], {})
    assert decode_request(message.value, message.json_length).inputs["text"].shape == (2, 1)


def test_encode_query_pads_token_ids() -> None:
    message = encode_query(TOKENS, [[5, 6, 7], [8]], {})
    request = decode_request(message.value, message.json_length)
    assert request.inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert request.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_encode_query_without_mask_needs_equal_lengths() -> None:
    plain = served(an_encoder("plain", IDS))
    message = encode_query(plain, [[1, 2], [3, 4]], {})
    assert decode_request(message.value, message.json_length).inputs["input_ids"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InvalidRequest, match="equal length"):
        encode_query(plain, [[1, 2], [3]], {})


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (TEXTS, [[5]], "takes no token ids, but text BYTES"),
        (TOKENS, ["a"], "takes no texts, but input_ids INT64"),
        (TEXTS, [], f"1 to {MOST_INPUTS} inputs, not 0"),
        (TEXTS, ["a"] * (MOST_INPUTS + 1), "not 2049"),
        (classifier(), ["a"], r"\$\.model: digits computes no vectors: its task is measured by accuracy"),
    ],
)
def test_encode_query_refuses_unfit_inputs(model: object, inputs: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        encode_query(model, inputs, {})  # pyright: ignore[reportArgumentType]


def test_check_dimensions_allows_the_models_own() -> None:
    check_dimensions(TEXTS, None)
    check_dimensions(TEXTS, 4)
    with pytest.raises(InvalidRequest, match=r"^\$\.dimensions: .* have 4 dimensions"):
        check_dimensions(TEXTS, 2)


def test_decode_vectors_inverts_the_result() -> None:
    query = encode_query(TEXTS, ["a film", "two"], {})
    value, fields = encoded({h.JSON_LENGTH: str(query.json_length)}, query.value)
    found = decode_vectors("embedding", a_result(value, fields))
    np.testing.assert_array_equal(found.vectors, np.array([vector_of("a film"), vector_of("two")], np.float32))
    assert found.tokens == token_ids([[1, 2], [3]]) == 3
    assert token_ids(["a film"]) == 0


def test_decode_vectors_reports_missing_output() -> None:
    message = encode_response("m", "", {"scores": np.zeros((1, 2), np.float32)}, binary=True)
    with pytest.raises(Internal, match="no vectors"):
        decode_vectors("embedding", Result(id="q", status=OK, value=message.value, json_length=message.json_length))
