"""Tests of queries as the selector reads them: needs, times, reply topics, and inputs that a record can hold."""

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
from schemas.topics import DEAD_LETTERS, SHADOWS, STATUS, offline_topic, task_topic

T = 1_700_000_000_000.0
LEAST = {h.ID: "q-1"}


def parse(**fields: str) -> Query:
    named = {"infaas-" + name.replace("_", "-"): text for name, text in fields.items()}
    return parse_query("digits", LEAST | named, T)


def ns(ms: float) -> str:
    return str(int(ms * 1e6))


def test_parse_query_requires_only_id() -> None:
    assert parse() == Query(
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
    assert parse(target="textcnn@2").needs.target == "textcnn@2"


@pytest.mark.parametrize(
    ("fields", "deadline_ms"),
    [
        ({"latency_ms": "50"}, T + 50),
        ({"latency_ms": "10", "deadline_ms": str(T + 20)}, T + 10),
        ({"sent_ns": ns(T + 2000), "deadline_ms": str(T + 2500)}, T + 500),
        ({"sent_ns": ns(T - 5000), "deadline_ms": str(T - 5500)}, T - 500),
        ({"sent_ns": ns(1000.0), "deadline_ms": "1500"}, T + 500),
        ({"sent_ns": "1", "deadline_ms": str(T + 500)}, T + 500),
        ({"sent_ns": "-5", "latency_ms": "50"}, T + 50),
        ({"sent_ns": "١٢", "latency_ms": "50"}, T + 50),
    ],
    ids=["relative", "earlier", "ahead", "behind", "since start", "far from deadline", "negative", "no ASCII"],
)
def test_parse_query_takes_deadline_by_clock_of_sender(fields: dict[str, str], deadline_ms: float) -> None:
    assert parse(**fields).deadline_ms == pytest.approx(deadline_ms, abs=1e-3)


@pytest.mark.parametrize(("off_ms", "believed"), [(0.4, True), (-0.9, True), (1.5, False), (-3600e3, False)])
def test_parse_query_accepts_send_time_within_rounding(off_ms: float, believed: bool) -> None:
    query = parse(sent_ns=ns(T + off_ms), latency_ms="5")
    assert query.sent_ms == pytest.approx(T + off_ms if believed else T, abs=1e-3)
    assert query.deadline_ms == query.sent_ms + 5


@pytest.mark.parametrize(
    ("before_ms", "believed"),
    [
        (ON_THE_WAY_MS, True),
        (-ROUNDING_MS, True),
        (-ROUNDING_MS - 0.5, False),
        (ON_THE_WAY_MS + 0.5, False),
        (3600e3, False),
    ],
)
def test_believed_ms_accepts_send_time_shortly_before_append(before_ms: float, believed: bool) -> None:
    assert believed_ms(T - before_ms, T) == (T - before_ms if believed else T)


def test_parse_query_takes_forwarded_times_as_broker_time() -> None:
    fields = LEAST | {h.DEADLINE_MS: str(T + 500), h.SENT_NS: ns(T - 50), h.LINGER_NS: "4000000"}
    query = parse_query("digits", fields, T, 1000.0, forwarded=True)
    assert query.deadline_ms == T + 500 - 1000.0
    assert query.sent_ms == pytest.approx(T - 50 - 1000.0, abs=1e-3)
    wrong = parse_query("digits", fields | {h.SENT_NS: ns(T - 5000)}, T, 1000.0, forwarded=True)
    assert wrong.sent_ms == T - 1000.0


@pytest.mark.parametrize(("lingered_ms", "counted_ms"), [(4.0, 4.0), (20.0, 20.0), (5000.0, 20.0)])
def test_parse_query_counts_linger_as_latency(lingered_ms: float, counted_ms: float) -> None:
    lingered = parse(linger_ns=ns(lingered_ms), latency_ms="50")
    assert (lingered.sent_ms, lingered.deadline_ms) == (T - counted_ms, T - counted_ms + 50)
    for sent in (T - counted_ms + 0.25, T - 3.0):  # within the linger, the send time is more precise
        finer = parse(linger_ns=ns(lingered_ms), sent_ns=ns(sent), latency_ms="50")
        assert (finer.sent_ms, finer.deadline_ms) == pytest.approx((sent, sent + 50), abs=1e-3)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("id", ""),
        ("id", "x" * (MAX_ID + 1)),
        ("latency_ms", "soon"),
        ("latency_ms", "-1"),
        ("latency_ms", "nan"),
        ("latency_ms", "inf"),
        ("deadline_ms", "tomorrow"),
        ("min_accuracy", "1.01"),
        ("max_cost", "-0.1"),
        ("mode", "often"),
        ("target", "Not A Name"),
        ("target", "textcnn@"),
        ("target", "textcnn@0"),
        ("target", "@2"),
        ("allow_late", "yes"),
        ("explain", "2"),
        ("tenant", "no name"),
        ("batch", "0"),
        ("batch", str(MAX_BATCH + 1)),
        ("batch", "many"),
        ("max_tokens", "0"),
        ("linger_ns", "-1"),
    ],
)
def test_parse_query_names_invalid_header(header: str, text: str) -> None:
    for _ in range(2):  # the cache must not store an error
        with pytest.raises(InvalidRequest, match="infaas-" + header.replace("_", "-")):
            parse(**{header: text})


@pytest.mark.parametrize("topic", ["replies", "a" * 249, "A.b_c-9", "infaas.replies.me", "infaas.results.digits"])
def test_parse_query_accepts_reply_topic(topic: str) -> None:
    assert parse(reply_to=topic).reply_to == topic


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        *((name, "not the name of a topic") for name in ("x" * 250, "../../etc/passwd", ".", "..", "a b", "é", "a\n")),
        ("__consumer_offsets", "a topic of the system"),
    ],
)
def test_parse_query_refuses_reply_topic(topic: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse(reply_to=topic)


def test_parse_query_refuses_topics_of_the_system() -> None:
    for topic in (STATUS, SHADOWS, DEAD_LETTERS, task_topic("digits"), offline_topic(task_topic("digits"))):
        with pytest.raises(InvalidRequest, match="a topic of the system"):
            parse(reply_to=topic)
    assert parse_query("digits", LEAST | {h.REPLY_TO: SHADOWS}, T, forwarded=True).reply_to == SHADOWS


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


@pytest.mark.parametrize(
    ("specs", "content_type", "size", "most"),
    [
        ((IMAGE,), "", 192 * 7 + 191, 7),
        ((IMAGE, TEXT), "", 195 * 7, 7),
        ((TEXT,), "", 90, 30),
        ((TOKENS,), "", 0, 1),
        ((), "", 5, 5),
        ((TEXT,), "text/plain", 1_000_000, 1),
        ((TEXT,), "image/png", 1_000_000, 1),
    ],
)
def test_most_inputs_follows_record_size(
    specs: tuple[TensorSpec, ...], content_type: str, size: int, most: int
) -> None:
    assert most_inputs(specs, {h.CONTENT_TYPE: content_type}, size) == most
