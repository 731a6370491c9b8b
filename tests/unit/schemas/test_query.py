"""Tests of queries as the selector reads them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.oip import encode_request
from schemas.query import (
    MAX_BATCH,
    MAX_ID,
    ON_THE_WAY_MS,
    ROUNDING_MS,
    Mode,
    Needs,
    Query,
    believed_ms,
    most_inputs,
    parse_query,
)
from schemas.signature import TensorSpec
from schemas.tensors import DTYPES, bytes_array
from schemas.topics import SHADOWS

T = 1_700_000_000_000.0
LEAST = {h.ID: "q-1"}


def parse(**fields: str) -> Query:
    named = {"infaas-" + name.replace("_", "-"): text for name, text in fields.items()}
    return parse_query("digits", LEAST | named, T)


def test_parse_query_requires_only_id() -> None:
    query = parse()
    assert query == Query(
        id="q-1", task="digits", reply_to="infaas.results.digits", sent_ms=T, deadline_ms=None, needs=Needs()
    )


def test_parse_query_reads_all_headers() -> None:
    query = parse(
        reply_to="answers", latency_ms="50", min_accuracy="0.9", max_cost="1e-3", mode="offline", target="mlp",
        allow_late="true", explain="True", tenant="acme", batch="3", deadline_ms="1700000000020",
        ttft_ms="200", tpot_ms="12.5", max_tokens="64",
    )  # fmt: skip
    assert query.needs == Needs(
        latency_ms=50, min_accuracy=0.9, max_cost=0.001, mode=Mode.OFFLINE, target="mlp", allow_late=True, explain=True,
        ttft_ms=200, tpot_ms=12.5, max_tokens=64,
    )  # fmt: skip
    assert (query.reply_to, query.tenant, query.batch) == ("answers", "acme", 3)
    assert query.deadline_ms == T + 20


def test_parse_query_takes_earlier_deadline() -> None:
    assert parse(latency_ms="50").deadline_ms == T + 50
    assert parse(latency_ms="10", deadline_ms=str(T + 20)).deadline_ms == T + 10


@pytest.mark.parametrize(("off_ms", "believed"), [(0.4, True), (-0.9, True), (1.5, False), (-3600e3, False)])
def test_parse_query_accepts_send_time_within_rounding(off_ms: float, believed: bool) -> None:
    sent = T + off_ms
    query = parse(sent_ns=str(int(sent * 1e6)), latency_ms="5")
    assert query.sent_ms == pytest.approx(sent if believed else T, abs=1e-3)
    assert query.deadline_ms == query.sent_ms + 5


@pytest.mark.parametrize("wrong_ms", [0.0, 2000.0, -5000.0, 1000.0 - T])
def test_parse_query_converts_deadline_from_clock_of_sender(wrong_ms: float) -> None:
    sent = T + wrong_ms
    query = parse(sent_ns=str(int(sent * 1e6)), deadline_ms=str(sent + 500))
    assert query.deadline_ms == pytest.approx(T + 500, abs=1e-3)
    assert parse(sent_ns=str(int(sent * 1e6)), deadline_ms=str(sent - 500)).deadline_ms == pytest.approx(
        T - 500, abs=1e-3
    )


def test_parse_query_ignores_send_time_far_from_deadline() -> None:
    assert parse(sent_ns="1", deadline_ms=str(T + 500)).deadline_ms == T + 500


def test_parse_query_takes_forwarded_times_as_broker_time() -> None:
    fields = LEAST | {h.DEADLINE_MS: str(T + 500), h.SENT_NS: str(int((T - 50) * 1e6))}
    query = parse_query("digits", fields, T, 1000.0, forwarded=True)
    assert query.deadline_ms == T + 500 - 1000.0
    assert query.sent_ms == pytest.approx(T - 50 - 1000.0, abs=1e-3)
    wrong = parse_query("digits", fields | {h.SENT_NS: str(int((T - 5000) * 1e6))}, T, 1000.0, forwarded=True)
    assert wrong.sent_ms == T - 1000.0


@pytest.mark.parametrize(("lingered_ms", "counted_ms"), [(4.0, 4.0), (20.0, 20.0), (5000.0, 20.0)])
def test_parse_query_counts_linger_as_latency(lingered_ms: float, counted_ms: float) -> None:
    lingered = parse(linger_ns=str(int(lingered_ms * 1e6)), latency_ms="50")
    assert (lingered.sent_ms, lingered.deadline_ms) == (T - counted_ms, T - counted_ms + 50)
    sent = T - counted_ms + 0.25
    finer = parse(linger_ns=str(int(lingered_ms * 1e6)), sent_ns=str(int(sent * 1e6)), latency_ms="50")
    assert finer.sent_ms == pytest.approx(sent, abs=1e-3)


def test_parse_query_counts_shorter_linger_by_send_time() -> None:
    sent = T - 3.0
    earlier = parse(linger_ns="10000000", sent_ns=str(int(sent * 1e6)), latency_ms="50")
    assert earlier.sent_ms == pytest.approx(sent, abs=1e-3)
    assert earlier.deadline_ms == pytest.approx(sent + 50, abs=1e-3)


def test_parse_query_ignores_linger_of_forwarded_query() -> None:
    fields = LEAST | {h.LINGER_NS: "4000000", h.SENT_NS: str(int((T - 2) * 1e6))}
    assert parse_query("digits", fields, T, forwarded=True).sent_ms == pytest.approx(T - 2, abs=1e-3)


def test_parse_query_ignores_invalid_send_time() -> None:
    assert parse(sent_ns="-5").sent_ms == T
    assert parse(sent_ns="١٢").sent_ms == T


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("id", ""),
        ("id", "x" * (MAX_ID + 1)),
        ("reply_to", "infaas.tasks.digits"),
        ("reply_to", "infaas.status"),
        ("reply_to", "no topic!"),
        ("reply_to", ".."),
        ("reply_to", "x" * 250),
        ("latency_ms", "soon"),
        ("latency_ms", "-1"),
        ("latency_ms", "nan"),
        ("latency_ms", "inf"),
        ("deadline_ms", "tomorrow"),
        ("min_accuracy", "1.01"),
        ("max_cost", "-0.1"),
        ("mode", "often"),
        ("target", "Not A Name"),
        ("allow_late", "yes"),
        ("explain", "2"),
        ("tenant", "no name"),
        ("batch", "0"),
        ("batch", str(MAX_BATCH + 1)),
        ("batch", "many"),
        ("linger_ns", "-1"),
        ("linger_ns", "a while"),
    ],
)
def test_parse_query_names_invalid_header(header: str, text: str) -> None:
    for _ in range(2):  # the cache must not store an error
        with pytest.raises(InvalidRequest, match="infaas-" + header.replace("_", "-")):
            parse(**{header: text})


def test_parse_query_names_missing_id() -> None:
    with pytest.raises(InvalidRequest, match=h.ID):
        parse_query("digits", {}, T)


def test_parse_query_allows_result_and_reply_topics() -> None:
    assert parse(reply_to="infaas.replies.gateway-1").reply_to == "infaas.replies.gateway-1"
    assert parse(reply_to="infaas.results.digits").reply_to == "infaas.results.digits"


_HEADERS = [value for name, value in vars(h).items() if name.isupper() and isinstance(value, str)]
_TEXT = st.text(max_size=20) | st.floats().map(str) | st.integers().map(str) | st.sampled_from(["true", "offline", "a"])


@given(st.dictionaries(st.sampled_from(_HEADERS), _TEXT), st.floats(0, 1e13))
def test_parse_query_of_any_headers_succeeds_or_refuses(fields: dict[str, str], timestamp_ms: float) -> None:
    try:
        query = parse_query("digits", fields, timestamp_ms)
    except InvalidRequest:
        return
    assert 1 <= query.batch <= MAX_BATCH
    assert query.deadline_ms is None or math.isfinite(query.deadline_ms)
    assert query.needs.min_accuracy is None or 0 <= query.needs.min_accuracy <= 1


def test_parse_query_allows_shadow_topic_only_if_forwarded() -> None:
    fields = LEAST | {h.REPLY_TO: SHADOWS}
    with pytest.raises(InvalidRequest, match="a topic of the system itself"):
        parse_query("digits", fields, T)
    assert parse_query("digits", fields, T, forwarded=True).reply_to == SHADOWS


def test_parse_query_accepts_version_as_target() -> None:
    assert parse(target="textcnn@2").needs.target == "textcnn@2"
    for wrong in ("textcnn@", "textcnn@0", "textcnn@x", "@2"):
        with pytest.raises(InvalidRequest, match="not a name of an architecture, version or variant"):
            parse(target=wrong)


@pytest.mark.parametrize(
    ("before_ms", "believed"),
    [
        (0.4, True),
        (ON_THE_WAY_MS, True),
        (-ROUNDING_MS, True),
        (-ROUNDING_MS - 0.5, False),
        (ON_THE_WAY_MS + 0.5, False),
    ],
)
def test_believed_ms_accepts_send_time_shortly_before_append(before_ms: float, believed: bool) -> None:
    said = T - before_ms
    assert believed_ms(said, T) == (said if believed else T)


@pytest.mark.parametrize("wrong_ms", [-3600e3, -5000.0, 5000.0, 3600e3])
def test_believed_ms_ignores_wrong_clock(wrong_ms: float) -> None:
    assert believed_ms(T + wrong_ms, T) == T


IMAGE = TensorSpec(name="image", datatype="FP32", shape=(-1, 3, 8, 8))
TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
TOKENS = TensorSpec(name="tokens", datatype="INT64", shape=(-1, -1))


@given(
    spec=st.sampled_from([IMAGE, TEXT, TOKENS]),
    rows=st.integers(1, 300),
    datatype=st.sampled_from(["UINT8", "FP32", "INT64"]),
    binary=st.booleans(),
)
def test_most_inputs_is_upper_bound_for_encoded_requests(
    spec: TensorSpec, rows: int, datatype: str, binary: bool
) -> None:
    shape = (rows, *(max(length, 1) for length in spec.shape[1:]))
    array = bytes_array([b""] * rows) if spec is TEXT else np.zeros(shape, DTYPES[datatype])
    encoded = encode_request({spec.name: array}, binary=binary)
    assert most_inputs((spec,), {}, len(encoded.value)) >= rows


def test_most_inputs_follows_record_size() -> None:
    assert most_inputs((IMAGE,), {}, 192 * 7 + 191) == 7
    assert most_inputs((IMAGE, TEXT), {}, 195 * 7) == 7
    assert most_inputs((TEXT,), {}, 90) == 30
    assert most_inputs((TOKENS,), {}, 0) == 1
    assert most_inputs((), {}, 5) == 5


@pytest.mark.parametrize("content_type", ["text/plain", "image/png"])
def test_most_inputs_of_plain_file_is_one(content_type: str) -> None:
    assert most_inputs((TEXT,), {h.CONTENT_TYPE: content_type}, 1_000_000) == 1
