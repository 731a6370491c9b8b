"""What is misspelt is refused with the name that was meant; what is somebody else's passes."""

import pytest

from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.spelling import check_headers, check_parameter, check_query_names


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
def test_a_header_that_is_not_known_is_refused(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_headers({h.ID: "1", name: "1"})
    assert name[:40] in str(refused.value)
    assert (f"did you mean {meant}?" in str(refused.value)) == bool(meant)
    assert len(str(refused.value)) < 250


def test_what_others_add_passes() -> None:
    known = [text for name, text in vars(h).items() if isinstance(text, str) and not name.startswith("_")]
    check_headers([*known, "infaas-x-hint", "infaas-dead-reason", "my-latency-ms", "ce_id", "", "infaasmus"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("min_acuracy", "min_accuracy"), ("latencyMs", "latency_ms"), ("LATENCY_MS", "latency_ms"),
        ("max_latency", "latency_ms"), ("cost", "max_cost"), ("infaas-target", "target"),
    ],
)  # fmt: skip
def test_a_parameter_that_looks_like_a_need_is_refused(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"did you mean {meant}\?"):
        check_parameter(name)
    with pytest.raises(InvalidRequest, match=rf"did you mean {meant}\?"):
        check_query_names([name])


@pytest.mark.parametrize(
    "name", ["model", "cost_center", "timeout", "priority", "sequence_id", "triton_x", "temperature"]
)
def test_a_parameter_of_ones_own_passes_and_a_query_string_has_none(name: str) -> None:
    check_parameter(name)
    with pytest.raises(InvalidRequest, match="there are latency_ms, "):
        check_query_names([name])
    check_query_names([name], name)
