"""Tests of `choose_pair`: the cascade and the single variant that the benchmark compares."""

import pytest

from bench.cascade import ProfiledVariant, choose_pair
from schemas.errors import OperatorError
from schemas.latency import BatchLatency


def one(name: str, accuracy: float, seconds: float, runtime: str = "onnx") -> ProfiledVariant:
    mean_s = seconds if runtime == "cascade" else None
    return ProfiledVariant(name, accuracy, (BatchLatency(1, seconds, 2 * seconds, mean_s=mean_s),), runtime, "fp32", "")


SINGLES = (one("small", 0.8, 0.001), one("int8", 0.872, 0.004), one("fp32", 0.875, 0.008))


def test_choose_pair_takes_cheapest_within_one_point() -> None:
    cascades = (
        one("low", 0.85, 0.0015, "cascade"),
        one("mid", 0.865, 0.002, "cascade"),
        one("high", 0.874, 0.003, "cascade"),
    )
    cascade, single = choose_pair((*SINGLES, *cascades))
    assert (cascade.variant, single.variant) == ("mid", "int8")


def test_choose_pair_needs_an_accurate_cascade() -> None:
    with pytest.raises(OperatorError, match="no cascade"):
        choose_pair((*SINGLES, one("low", 0.8, 0.001, "cascade")))
