"""Tests of reserved and misspelt names of headers and parameters."""

import pytest

from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.query_names import Parameter, check_headers, check_parameter, check_query_names, check_reserved


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("infaas-latency", "infaas-latency-ms"),
        ("infaas-min-acuracy", "infaas-min-accuracy"),
        ("infaas-accuracy-min", "infaas-min-accuracy"),
        ("infaas-cost", "infaas-max-cost"),
        ("infaas-deadline", "infaas-deadline-ms"),
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


@pytest.mark.parametrize(
    "name", ["model", "cost_center", "timeout", "priority", "sequence_id", "triton_x", "temperature"]
)
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
