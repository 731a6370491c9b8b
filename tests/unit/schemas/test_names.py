"""Tests of names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidRequest
from schemas.names import check_name, hardware_of, is_name, is_variant_name, number_of, variant_name, worker_name


@pytest.mark.parametrize("name", ["a", "sentiment", "efficientnet-lite0", "7", "a" * 63])
def test_is_name_accepts_valid_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "a" * 64, "ü", "a\n", "../x"])
def test_is_name_rejects_invalid_names(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidRequest, match="task name"):
        check_name("task", name)


def test_variant_name_joins_three_names() -> None:
    name = variant_name("textcnn", "onnx", "int8static", "cpu")
    assert name == "textcnn.onnx-int8static.cpu"
    assert is_variant_name(name)
    assert not is_name(name)


@given(st.text(max_size=80))
def test_names_and_variant_names_are_disjoint(text: str) -> None:
    assert not (is_name(text) and is_variant_name(text))


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_name_fits_kafka_topic(name: str) -> None:
    assert is_name(name)
    assert len("infaas.variants." + variant_name(name, "onnx", "fp32", "cpu")) <= 249


@pytest.mark.parametrize("prefix", ["", "box-3f9a-", "gpu-box-3f9a-"])
def test_worker_name_contains_hardware_and_number(prefix: str) -> None:
    name = worker_name("cuda", 12, prefix)
    assert (name, hardware_of(name), number_of(name)) == (f"{prefix}cuda-12", "cuda", 12)
