"""Tests of signatures of queries and of proofs of refused counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.security.signature import (
    UNCOVERED,
    SigningKey,
    digest_of,
    is_rejected_upstream_proof,
    is_signed_by,
    parse_key,
    read_signature,
    rejected_upstream_proof,
    sign,
    system_key,
    tenant_key,
)
from schemas import headers as h
from schemas.errors import InvalidRequest, OperatorError

SECRET = b"x" * 32
KEY = tenant_key(SECRET, "acme", 1)
FIELDS = {h.ID: "1", h.LATENCY_MS: "20", h.CONTENT_TYPE: "application/json", "traceparent": "00-1"}
VALUE = b'{"inputs": []}'
HEADER = sign(KEY, "digits", FIELDS, VALUE, 1_000)
LINES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=10)
NAMES = st.sampled_from(["infaas-id", "infaas-mode", "infaas-x", "content-type"])
SYSTEM_SECRET = b"s" * 32
words = st.tuples(st.text(), st.text(), st.text(), st.text())


def holds(
    header: str = HEADER, key: SigningKey = KEY, task: str = "digits", value: bytes = VALUE, **changed: str | None
) -> bool:
    fields = FIELDS | {name.replace("_", "-"): text for name, text in changed.items()}
    signature = read_signature(header)
    kept = {name: text for name, text in fields.items() if text is not None}
    return signature is not None and is_signed_by(key, signature, task, kept, digest_of(value))


def test_signature_is_valid_for_signed_query() -> None:
    assert holds()
    assert holds(traceparent="00-2", infaas_correlation="7", infaas_linger_ns="5")


def test_signature_is_invalid_for_any_other_query() -> None:
    assert not holds(task="mnist")
    assert not holds(value=VALUE + b" ")
    assert not holds(infaas_latency_ms="2000")
    assert not holds(infaas_latency_ms=None)
    assert not holds(infaas_max_cost="1")
    assert not holds(infaas_reply_stream="127.0.0.1:1 secret")
    assert not holds(infaas_id="1\ninfaas-latency-ms:20", infaas_latency_ms=None)
    assert not holds(content_type="application/octet-stream")
    assert not holds(header=HEADER.replace(" 1000 ", " 1001 "))
    for other in (tenant_key(SECRET, "acme", 2), tenant_key(SECRET, "globex", 1), system_key(SECRET),
                  tenant_key(b"y" * 32, "acme", 1)):  # fmt: skip
        assert not holds(key=other)


@given(st.dictionaries(NAMES, LINES), st.dictionaries(NAMES, LINES), st.binary(max_size=5))
def test_signature_differs_between_queries(one: dict[str, str], other: dict[str, str], value: bytes) -> None:
    signature = read_signature(sign(KEY, "digits", one, value, 1))
    assert signature is not None
    assert is_signed_by(KEY, signature, "digits", other, digest_of(value)) == (one == other)


@pytest.mark.parametrize(
    "text", ["", "v1", "v2 acme.1 1 AA", "v1 acme.1 x AA", "v1 acme.1 1 A*", "v1 acme.1 \u0661 AA"]
)
def test_read_signature_refuses_malformed_text(text: str) -> None:
    assert read_signature(text) is None


def test_signing_key_is_parsed_and_hidden_in_repr() -> None:
    assert parse_key(f" {KEY}\n") == KEY
    assert KEY.tenant == "acme"
    assert system_key(SECRET).tenant == ""
    assert str(KEY).rpartition(".")[2] not in repr(KEY)
    for wrong in ("", "acme", "infaas-sk.acme.1", f"{KEY}*", "infaas-sk.a.b.1.AA", "infaas-sk.acme.x.AA"):
        with pytest.raises(OperatorError):
            parse_key(wrong)


def test_sign_refuses_newline_in_header() -> None:
    with pytest.raises(InvalidRequest, match="newline"):
        sign(KEY, "digits", {h.ID: "1\n2"}, VALUE, 1)


def test_uncovered_headers_are_those_added_on_the_way() -> None:
    assert {h.CORRELATION, h.LINGER_NS, h.SIGNATURE} <= UNCOVERED
    assert not {h.ID, h.TENANT, h.REPLY_TO, h.REPLY_STREAM, *h.NEEDS.values()} & UNCOVERED


@given(said=words, other=words)
def test_proof_is_right_for_its_own_query_alone(
    said: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    proof = rejected_upstream_proof(SYSTEM_SECRET, *said)
    assert is_rejected_upstream_proof(SYSTEM_SECRET, proof, *said)
    assert is_rejected_upstream_proof(SYSTEM_SECRET, proof, *other) == (said == other)
    assert not is_rejected_upstream_proof(b"t" * 32, proof, *said)
    assert not is_rejected_upstream_proof(SYSTEM_SECRET, proof[:-1], *said)
    assert not is_rejected_upstream_proof(SYSTEM_SECRET, "\u00e9" + proof, *said)
