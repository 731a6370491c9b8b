"""Tests of decoding a record to query parts and of encoding its result."""

from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.delivery.consumer import Record
from schemas import headers as h
from schemas.errors import DeadlineExceeded, InvalidRequest, ModelFailed, RefusalReason, Unsatisfiable
from schemas.latency import LatencyModel
from schemas.load_classes import class_key
from schemas.oip import decode_response, encode_request
from schemas.query import parse_query
from schemas.result import parse_result
from schemas.rows.catalog import DecodeImage, Processing, TensorSpec, Tokenise
from schemas.tensors import bytes_array
from schemas.topics import SHADOWS
from selector.admission.received_query import error_result
from selector.dispatch.dispatcher import forwarded
from selector.policy.choice import Choice
from selector.policy.variants import PricedVariant
from tests.example_rows import INPUT, a_profile, a_variant
from workers.serving.codec import (
    Undecodable,
    batch_key,
    decode_query,
    encode_error,
    encode_result,
    identify,
    stack,
    unstack,
)
from workers.serving.model import ServableModel
from workers.serving.pending_query import QueryPart, tensor_bytes
from workers.slots.batch_queue import NO_DEADLINE

OUTPUT = TensorSpec(name="y", datatype="FP32", shape=(-1, 4))
MODEL = ServableModel(a_variant(), (INPUT,), (OUTPUT,), LatencyModel(a_profile().latency, 8), 0)
T, OFFSET_MS = 1_764_000_000_000, 1_763_900_000_000.0
ROWS = np.arange(80, dtype=np.float32).reshape(20, 4)


def record(value: bytes | None, **fields: str) -> Record:
    headers = [(name.replace("_", "-"), text.encode()) for name, text in fields.items()]
    return Record("infaas.variants.v", 1, 7, 1_000, 0, b"k", value, tuple(headers))


def request(rows: int = 2, fields: dict[str, str] | None = None) -> Record:
    encoded = encode_request({"x": ROWS[:rows]})
    return record(
        encoded.value, **{h.ID: "q", h.BATCH: str(rows), h.JSON_LENGTH: str(encoded.json_length)} | (fields or {})
    )


def test_codec_reassembles_outputs_by_query() -> None:
    queries = [identify(request(rows), "digits") for rows in (1, 3, 20)]
    parts = [part for query in queries for part in decode_query(query, MODEL)]
    assert [part.inputs for part in parts] == [1, 3, 8, 8, 4]
    outputs = unstack(parts, {"y": stack(parts)["x"] * 2}, MODEL)
    done = [part.query.add(part.number, output, 1, 1) for part, output in zip(parts, outputs, strict=True)]
    assert done == [True, True, False, False, True]
    for query, rows in zip(queries, (1, 3, 20), strict=True):
        message = encode_result(query, "v", "w")
        result = parse_result(h.as_text(message.headers), message.value or b"")
        found = decode_response(result.value, result.json_length).outputs["y"]
        np.testing.assert_array_equal(found, ROWS[:rows] * 2)


def test_codec_returns_correlation_and_trace_headers() -> None:
    fields = {h.CORRELATION: "mine-7", h.TRACEPARENT: "00-trace"}
    query = identify(request(fields=fields), "digits")
    refusal = error_result("", query.id, Unsatisfiable(), query.fields).headers
    error = encode_error(query, ModelFailed(), "v", "w").headers
    (part,) = decode_query(query, MODEL)
    (output,) = unstack([part], {"y": stack([part])["x"]}, MODEL)
    assert not isinstance(output, ModelFailed)
    query.add(part.number, output, 1, 1)
    for headers in (refusal, error, encode_result(query, "v", "w").headers):
        got = h.as_text(headers)
        assert {name: got[name] for name in fields} == fields
        assert parse_result(got, b"{}").correlation == "mine-7"


def test_encode_error_names_the_reason_in_header_and_body() -> None:
    query = identify(request(), "digits")
    message = encode_error(query, DeadlineExceeded(), "v", "w")
    result = parse_result(h.as_text(message.headers), message.value or b"")
    assert (result.reason, msgspec.json.decode(result.value)["reason"]) == ("deadline_passed", "deadline_passed")
    assert result.failure().reason is RefusalReason.DEADLINE_PASSED
    assert h.REASON not in h.as_text(encode_error(query, ModelFailed(), "v", "w").headers)


def test_encode_result_omits_secret_of_reply_stream() -> None:
    query = identify(request(fields={h.REPLY_STREAM: "127.0.0.1:1 secret", h.EXPLANATION: "{}"}), "digits")
    parts = decode_query(query, MODEL)
    query.add(0, {"y": parts[0].tensors["x"][:, :2]}, 1, 1)
    for message in (encode_result(query, "v", "w"), encode_error(query, ModelFailed(), "v", "w")):
        assert message.stream == "127.0.0.1:1 secret"
        assert not any(b"secret" in value for _, value in message.headers)
        assert b"secret" not in (message.value or b"")


def test_decode_query_reads_deadline_mode_and_names() -> None:
    query = identify(request(fields={h.DEADLINE_MS: "2500", h.TASK: "t", h.TARGET: "mlp", h.MODE: "offline"}), "digits")
    (part,) = decode_query(query, MODEL)
    assert (part.deadline_s, part.offline, query.model_name, query.reply_to) == (2.5, True, "mlp", "infaas.results.t")
    (part,) = decode_query(identify(request(), "digits"), MODEL)
    assert (part.deadline_s, part.offline) == (NO_DEADLINE, False)


@given(
    st.none() | st.integers(1, 100_000),
    st.integers(0, 10**10),
    st.sampled_from([{}, {h.MIN_ACCURACY: "0.29"}, {h.TARGET: "mlp", h.MODE: "offline"}]),
)
def test_decode_query_and_selector_agree_on_query_class(
    latency_ms: int | None, queued_ns: int, needs: dict[str, str]
) -> None:
    received = needs | {h.ID: "q"} | ({} if latency_ms is None else {h.LATENCY_MS: str(latency_ms)})
    asked = parse_query("digits", received, T, OFFSET_MS)
    choice = Choice(PricedVariant(a_variant(), a_profile()), None, None, 0.0, 0.0, b"")  # pyright: ignore[reportArgumentType]
    headers = [(name, text.encode()) for name, text in received.items()]
    sent = forwarded(asked, choice, headers, asked.sent_ms / 1e3 + queued_ns / 1e9, OFFSET_MS, None)
    query = identify(replace(request(fields=h.as_text(sent)), timestamp=T + queued_ns // 1_000_000), "digits")
    decode_query(query, MODEL, 5.0)
    assert query.class_key == class_key(asked.needs, None if latency_ms is None else float(latency_ms))


def test_choice_of_the_selector_is_stated_in_the_result() -> None:
    asked = parse_query("digits", {h.ID: "q"}, T, OFFSET_MS)
    choice = Choice(PricedVariant(a_variant(), a_profile()), None, None, 0.25, 0.5, b"0.5")  # pyright: ignore[reportArgumentType]
    received = [(h.ID, b"q"), (h.CHOICE, b"mine 1.0 0 0 0"), (h.COST, b"0")]
    sent = forwarded(asked, choice, received, asked.sent_ms / 1e3 + 2.0, OFFSET_MS, None)
    query = identify(request(fields=h.as_text(sent)), "digits")
    message = encode_error(query, DeadlineExceeded("late"), choice.variant.name, "w")
    stated = dict(message.headers)
    assert stated[h.VARIANT] == choice.variant.name.encode()
    assert float(stated[h.ACCURACY]) == choice.variant.accuracy
    assert (stated[h.COST], stated[h.PREDICTED_NS]) == (b"0.5", b"250000000")
    assert int(stated[h.TASK_QUEUE_NS]) == pytest.approx(2e9)


@pytest.mark.parametrize(("wrong_ms", "queued_ms"), [(-20.0, 30.0), (-5000.0, 10.0), (5000.0, 10.0)])
def test_query_queue_ns_starts_at_credible_send_time(wrong_ms: float, queued_ms: float) -> None:
    said = {h.SENT_NS: str(int((T + wrong_ms) * 1e6)), h.DEADLINE_MS: str(T + 500)}
    query = identify(replace(request(fields=said), timestamp=T), "digits")
    (part,) = decode_query(query, MODEL, OFFSET_MS)
    assert part.deadline_s * 1e3 == T + 500 - OFFSET_MS
    query.add(0, {}, int((T + 10 - OFFSET_MS) * 1e6), 1)
    assert query.queue_ns == pytest.approx(queued_ms * 1e6, abs=1e3)


def test_decode_query_refuses_system_topic_for_results() -> None:
    query = identify(request(fields={h.REPLY_TO: "infaas.variants.v"}), "digits")
    assert query.reply_to == "infaas.results.digits"
    with pytest.raises(InvalidRequest, match="topic of the system"):
        decode_query(query, MODEL)


def test_decode_query_gives_suspect_its_own_shape() -> None:
    (suspect,) = decode_query(identify(request(), "digits"), MODEL, alone=True)
    (other,) = decode_query(identify(request(), "digits"), MODEL)
    assert suspect.shape != other.shape


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"z": ROWS}, "exactly: x"),
        ({"x": ROWS, "z": ROWS}, "exactly: x"),
        ({"x": np.full((2, 4), 1e300)}, "must be FP32"),
        ({"x": np.full((2, 4), True)}, "must be FP32"),
        ({"x": ROWS[:, :3]}, "must have shape"),
        ({"x": ROWS[0]}, "must have shape"),
        ({"x": ROWS[:0]}, "must have shape"),
    ],
)
def test_decode_query_refuses_other_tensors_than_task(tensors: dict[str, np.ndarray], said: str) -> None:
    encoded = encode_request(tensors)
    query = identify(record(encoded.value, **{h.ID: "q", h.JSON_LENGTH: str(encoded.json_length)}), "digits")
    with pytest.raises(InvalidRequest, match=said):
        decode_query(query, MODEL)


def test_decode_query_casts_numbers() -> None:
    for rows in (ROWS[:2].astype(np.float64), ROWS[:2].round().astype(np.int64)):
        encoded = encode_request({"x": rows})
        fields = {h.ID: "q", h.BATCH: "2", h.JSON_LENGTH: str(encoded.json_length)}
        query = identify(record(encoded.value, **fields), "digits")
        (part,) = decode_query(query, MODEL)
        assert part.tensors["x"].dtype == np.float32
        assert part.tensors["x"].tolist() == rows.astype(np.float32).tolist()


@pytest.mark.parametrize(("claimed", "unfounded"), [("5", 2), ("1", 0), ("65536", 65_533)])
def test_decode_query_refuses_wrong_batch_header(claimed: str, unfounded: int) -> None:
    query = identify(request(3, {h.BATCH: claimed}), "digits")
    with pytest.raises(InvalidRequest, match=f"infaas-batch declares {claimed} inputs, but the query has 3"):
        decode_query(query, MODEL)
    assert query.unfounded == unfounded


def test_decode_query_counts_unfounded_batch_of_invalid_request() -> None:
    query = identify(record(b"garbage", **{h.ID: "q", h.BATCH: "900"}), "digits")
    with pytest.raises(InvalidRequest):
        decode_query(query, MODEL)
    assert query.unfounded == 899


def test_encode_result_marks_late_answer() -> None:
    for late in (False, True):
        query = identify(request(), "digits")
        (part,) = decode_query(query, MODEL)
        query.add(0, {"y": part.tensors["x"]}, 1, 1)
        headers = dict(encode_result(query, "v", "w", late=late).headers)
        assert headers.get("infaas-late") == (b"true" if late else None)


def test_identify_refuses_record_without_id() -> None:
    with pytest.raises(Undecodable):
        identify(record(b"{}"), "digits")


def test_unstack_refuses_outputs_of_wrong_count() -> None:
    parts = decode_query(identify(request(), "digits"), MODEL)
    with pytest.raises(ValueError, match="batch of 2"):
        unstack(parts, {"y": ROWS}, MODEL)


def test_encode_result_reports_inconsistent_outputs() -> None:
    query = identify(request(20), "digits")
    for part in decode_query(query, MODEL):
        query.add(part.number, {"y": np.ones((part.inputs, part.number + 1), np.float32)}, 1, 1)
    with pytest.raises(ModelFailed, match="do not fit together"):
        encode_result(query, "v", "w")


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from([h.JSON_LENGTH, h.MODE, h.SENT_NS, h.CONTENT_TYPE,
       h.DEADLINE_MS, h.REPLY_TO]), st.text(max_size=30)))  # fmt: skip
def test_decode_query_of_any_record_succeeds_or_refuses(value: bytes, fields: dict[str, str]) -> None:
    query = identify(record(value, **fields | {h.ID: "q"}), "digits")
    with suppress(InvalidRequest):
        assert decode_query(query, MODEL)


@pytest.mark.parametrize("odd", [-1, -30522, 30522, 2**40])
def test_decode_query_refuses_ids_outside_vocabulary(odd: int) -> None:
    """Onnxruntime takes -1 as the last token; on a GPU it does not check ids at all."""
    ids = TensorSpec(name="x", datatype="INT64", shape=(-1, 4), below=30522)
    model = msgspec.structs.replace(MODEL, inputs=(ids,))
    good = np.array([[0, 1, 2, 30521]], np.int64)
    for rows, refused in ((good, False), (np.where(good == 2, odd, good), True)):
        encoded = encode_request({"x": rows})
        query = identify(record(encoded.value, **{h.ID: "q", h.JSON_LENGTH: str(encoded.json_length)}), "t")
        if refused:
            with pytest.raises(InvalidRequest, match=f"from 0 to 30521, not {odd}"):
                decode_query(query, model)
        else:
            assert decode_query(query, model)


def test_batch_key_of_images_is_independent_of_file_size() -> None:
    step = DecodeImage(width=28, height=28, channels="grey")
    model = msgspec.structs.replace(MODEL, processing=Processing(before=step))
    keys = {batch_key(model, {"image": bytes_array([b"x" * size])}) for size in (100, 100_000)}
    assert len(keys) == 1, "they become tensors of one size"


LENGTHS = ServableModel(
    msgspec.structs.replace(a_variant(), mixes_lengths=True),
    (TensorSpec(name="x", datatype="FP32", shape=(-1, -1)),),
    (OUTPUT,),
    LatencyModel(a_profile().latency, 8),
    0,
)


def of_length(length: int, model: ServableModel = LENGTHS) -> QueryPart:
    encoded = encode_request({"x": np.full((1, length), length, np.float32)})
    value = record(encoded.value, **{h.ID: f"q{length}", h.JSON_LENGTH: str(encoded.json_length)})
    (part,) = decode_query(identify(value, "digits"), model)
    return part


def test_query_part_shape_groups_similar_lengths_if_padded() -> None:
    assert len({of_length(length).shape for length in (1, 7, 16)}) == 1
    assert len({of_length(length).shape for length in (17, 32)}) == 1
    assert len({of_length(length).shape for length in (16, 17, 33, 65)}) == 4
    apart = msgspec.structs.replace(LENGTHS, variant=a_variant())
    assert of_length(7, apart).shape != of_length(16, apart).shape


def test_stack_pads_shorter_inputs_with_zeros() -> None:
    assert stack([of_length(2), of_length(3)])["x"].tolist() == [[2, 2, 0], [3, 3, 3]]


@pytest.mark.parametrize(("one", "other", "together"), [(20, 60, True), (100, 120, True), (20, 300, False)])
def test_query_part_shape_groups_texts_of_similar_length(one: int, other: int, together: bool) -> None:
    model = msgspec.structs.replace(
        LENGTHS,
        inputs=(TensorSpec(name="text", datatype="BYTES", shape=(-1,)),),
        processing=Processing(before=Tokenise(tokenizer="t")),
    )
    parts: list[QueryPart] = []
    for length in (one, other):
        fields = {h.ID: "q", h.CONTENT_TYPE: "text/plain; charset=utf-8"}
        parts += decode_query(identify(record(b"a" * length, **fields), "digits"), model)
    assert (parts[0].shape == parts[1].shape) == together
    assert parts[0].tensors["text"].tolist() == [b"a" * one]
    assert parts[0].query.request is not None
    assert not parts[0].query.request.binary_output, "who sends a text reads JSON"


def test_encode_result_sends_shadow_copies() -> None:
    for fields, topic, copy_to in (
        ({h.REPLY_TO: "mine", h.COPIED: "true"}, "mine", SHADOWS),
        ({h.REPLY_TO: SHADOWS, h.TARGET: "net@2"}, SHADOWS, ""),
    ):
        query = identify(request(fields=fields), "digits")
        parts = decode_query(query, MODEL)
        query.add(0, {"y": parts[0].tensors["x"][:, :2]}, 1, 1)
        message = encode_result(query, "v", "w")
        assert (message.topic, message.copy_to) == (topic, copy_to)


def test_encode_result_names_requested_version() -> None:
    query = identify(request(fields={h.TARGET: "net@2"}), "digits")
    parts = decode_query(query, MODEL)
    query.add(0, {"y": parts[0].tensors["x"][:, :2]}, 1, 1)
    message = encode_result(query, "v", "w")
    result = parse_result(h.as_text(message.headers), message.value or b"")
    found = decode_response(result.value, result.json_length)
    assert (found.model_name, found.model_version) == ("net", "2")


def test_encode_result_replaces_scores_by_requested_classes() -> None:
    asked = b"""{"outputs": [{"name": "y", "parameters": {"classification": 2}}],
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0.25, 0.75, 0]}]}"""
    query = identify(record(asked, **{h.ID: "q"}), "digits")
    parts = decode_query(query, msgspec.structs.replace(MODEL, class_names=("a", "b", "c", "d")))
    query.add(0, {"y": parts[0].tensors["x"], "z": parts[0].tensors["x"]}, 1, 1)
    found = decode_response(encode_result(query, "v", "w").value or b"").outputs
    assert list(found) == ["y"]
    assert found["y"].tolist() == [[b"0.750000:2:c", b"0.250000:1:b"]]


def test_decode_query_refuses_unknown_and_duplicate_outputs() -> None:
    inputs = b'"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}'
    for outputs, message in ((b'{"name": "nope"}', "no output 'nope'"), (b'{"name": "y"}, {"name": "y"}', "twice")):
        query = identify(record(b'{"outputs": [' + outputs + b"], " + inputs, **{h.ID: "q"}), "digits")
        with pytest.raises(InvalidRequest, match=message):
            decode_query(query, MODEL)


SEQUENCE = ServableModel(
    msgspec.structs.replace(a_variant(), mixes_lengths=True),
    (TensorSpec(name="x", datatype="FP32", shape=(-1, -1), axes=("", "T")),),
    (TensorSpec(name="y", datatype="FP32", shape=(-1, -1), axes=("", "T")),),
    LatencyModel(a_profile().latency, 8),
    0,
)


def test_unstack_cuts_sequences_to_each_query() -> None:
    parts = [of_length(length, SEQUENCE) for length in (3, 1, 5)]
    batch = stack(parts)["x"]
    assert batch.shape == (3, 5)
    found = unstack(parts, {"y": batch * 2, "z": batch}, SEQUENCE)
    assert [output["y"].tolist() for output in found] == [[[6.0] * 3], [[2.0]], [[10.0] * 5]]
    assert {output["z"].shape for output in found} == {(1, 5)}, "not along the sequence"


RATE = TensorSpec(name="rate", datatype="INT64", shape=(-1,), parameter=True, default=16000)
WITH_RATE = msgspec.structs.replace(MODEL, inputs=(INPUT, RATE))


def with_rate(**change: object) -> QueryPart:
    """Decode a query of two rows, in which `change` replaces fields of the JSON."""
    rows = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": ROWS[:2].ravel().tolist()}
    value = msgspec.json.encode({"inputs": [rows]} | change)
    (part,) = decode_query(identify(record(value, **{h.ID: "q", h.BATCH: "2"}), "digits"), WITH_RATE)
    return part


def test_decode_query_fills_parameters_of_model() -> None:
    tensor = {"name": "rate", "shape": [], "datatype": "INT64", "data": [8000]}
    rows = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [0.0] * 8}
    default, named = with_rate(), with_rate(parameters={"rate": 8000})
    assert default.tensors["rate"].tolist() == [16000, 16000]
    assert named.tensors["rate"].tolist() == with_rate(inputs=[tensor, rows]).tensors["rate"].tolist() == [8000, 8000]
    assert default.shape == with_rate().shape != named.shape, "queries of one value share a batch"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {"rate": "fast"}}, "parameter rate must be a number, not 'fast'"),
        ({"parameters": {"rate": 1.5}}, "input rate must be INT64, not FP64"),
        ({"parameters": {"rate": 2**63}}, "input rate must be INT64; UINT64 is cast .* but 9223372036854775808 does"),
        ({"parameters": {"rate": -(2**63) - 1}}, "rate must be"),
        ({"parameters": {"rate": 2**64}}, "rate must be"),
    ],
)
def test_decode_query_refuses_wrong_parameters(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        with_rate(**change)


def test_decode_query_refuses_parameter_of_two_values() -> None:
    rows = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [0.0] * 8}
    rate = {"name": "rate", "shape": [2], "datatype": "INT64", "data": [8000, 16000]}
    with pytest.raises(InvalidRequest, match="input rate must have one value"):
        with_rate(inputs=[rows, rate])


def test_tensor_bytes_counts_objects() -> None:
    tensors = {"x": np.zeros((2, 4), np.float32), "text": bytes_array([b"a", b"longer"])}
    assert tensor_bytes(tensors) == 32 + 2 * (8 + 33)
