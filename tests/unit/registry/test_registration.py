"""Tests of counting the steps of a registration before it starts."""

from collections.abc import Callable
from pathlib import Path

from registry.register import step_count
from registry.registration import Registration


async def test_step_count_includes_sources_of_variants(make_model: Callable[..., Path]) -> None:
    request = Registration(architecture="a", task="b", file=make_model(), variants=("onnx-int8dyn",))
    assert await step_count(request) == 3
