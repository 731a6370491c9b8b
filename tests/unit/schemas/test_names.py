"""Tests of names: of tasks, variants, workers and topics; of headers and parameters, known and misspelt."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.names import check_name, hardware_of, is_name, is_variant_name, number_of, variant_name, worker_name
from schemas.query_names import Parameter, check_headers, check_parameter, check_query_names, check_reserved
from schemas.topics import WORKER_GROUPS, offline_topic, query_topic, task_of, task_topic, variant_group


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "a" * 64, "ü", "a\n", "../x"])
def test_check_name_refuses_invalid_names(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidRequest, match="task name"):
        check_name("task", name)


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.text(max_size=80))
def test_names_and_variant_names_are_disjoint_and_fit_kafka(name: str, text: str) -> None:
    assert is_name(name)
    variant = variant_name(name, "onnx", "int8static", "cpu")
    assert variant == f"{name}.onnx-int8static.cpu"
    assert is_variant_name(variant)
    assert len("infaas.variants." + variant) <= 249
    for one in (name, variant, text):
        assert not (is_name(one) and is_variant_name(one))


@pytest.mark.parametrize("prefix", ["", "box-3f9a-", "gpu-box-3f9a-"])
def test_worker_name_contains_hardware_and_number(prefix: str) -> None:
    name = worker_name("cuda", 12, prefix)
    assert (name, hardware_of(name), number_of(name)) == (f"{prefix}cuda-12", "cuda", 12)


@pytest.mark.parametrize("task", ["digits", "offline", "a-offline"])
def test_task_of_reads_task_from_topic(task: str) -> None:
    assert is_name(task)
    assert not is_name(f"{task}.offline")
    assert task_of(task_topic(task)) == task_of(offline_topic(task)) == task
    assert query_topic(task, offline=True) == offline_topic(task) != query_topic(task, offline=False)


def test_variant_groups_are_stable_and_even() -> None:
    """Another group than before would begin at other offsets."""
    assert variant_group("digits-mlp.onnx-fp32.cpu") == "infaas.workers.0"
    groups = Counter(variant_group(f"mlp{number}.onnx-fp32.cpu") for number in range(1000))
    assert groups.keys() == set(WORKER_GROUPS)
    assert max(groups.values()) < 2 * 1000 / len(WORKER_GROUPS)


@pytest.mark.parametrize("header", [("name\udcff", b"x"), ("name", b"\xff")])
def test_as_text_refuses_headers_that_are_not_utf8(header: tuple[str, bytes]) -> None:
    assert h.as_text([("naïve", "für".encode()), ("none", None)]) == {"naïve": "für", "none": ""}
    with pytest.raises(UnicodeError):
        h.as_text([("good", b"x"), header])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("infaas-latency", "infaas-latency-ms"),
        ("infaas-min-acuracy", "infaas-min-accuracy"),
        ("infaas-accuracy-min", "infaas-min-accuracy"),
        ("infaas-replyto", "infaas-reply-to"),
        ("Infaas-Latency-Ms", "infaas-latency-ms"),
        ("infaas_latency_ms", "infaas-latency-ms"),
        ("infaas-fairness", ""),
        ("infaas-" + "x" * 100_000, ""),
    ],
)
def test_check_headers_suggests_known_header(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_headers({h.ID: "1", name: "1"})
    assert name[:40] in str(refused.value)
    assert (f"did you mean {meant}?" in str(refused.value)) == bool(meant)
    assert len(str(refused.value)) < 250


def test_check_headers_accepts_known_and_foreign_headers() -> None:
    known = [text for name, text in vars(h).items() if isinstance(text, str) and not name.startswith("_")]
    check_headers([*known, "infaas-x-hint", "infaas-dead-reason", "my-latency-ms", "ce_id", "", "infaasmus"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("min_acuracy", "min_accuracy"), ("latencyMs", "latency_ms"), ("LATENCY_MS", "latency_ms"),
        ("max_latency", "latency_ms"), ("cost", "max_cost"), ("infaas-target", "target"),
    ],
)  # fmt: skip
def test_check_parameter_suggests_known_parameter(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"did you mean {meant}\?"):
        check_parameter(name)
    with pytest.raises(InvalidRequest, match=rf"did you mean {meant}\?"):
        check_query_names([name])


@pytest.mark.parametrize("name", ["model", "cost_center", "timeout", "priority", "sequence_id", "triton_x"])
def test_custom_parameter_passes_except_in_query_string(name: str) -> None:
    check_parameter(name)
    with pytest.raises(InvalidRequest, match="there are latency_ms, "):
        check_query_names([name])
    check_query_names([name], name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sequence_id", 7, "sequences are not supported"),
        ("sequence_id", "mine", "sequences are not supported"),
        ("sequence_start", True, "sequences are not supported"),
        ("sequence_end", True, "sequences are not supported"),
        ("priority", 1, "latency_ms"),
        ("binary_data_output", "yes", "Expected `bool`"),
        ("binary_data_output", 1, "Expected `bool`"),
    ],
)
def test_check_reserved_refuses_unsupported_parameters(name: str, value: Parameter, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        check_reserved({name: value})
    assert name in str(raised.value)


def test_check_reserved_accepts_neutral_values() -> None:
    check_reserved(
        {"sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0, "binary_data_output": True}
    )
    check_reserved({"sequence_id": "", "my_own": 7})
