"""A registration, before it begins."""

from collections.abc import Callable
from pathlib import Path

from registry.register import step_count
from registry.registration import Registration


async def test_the_number_of_steps_is_known_beforehand(make_model: Callable[..., Path]) -> None:
    assert step_count(Registration(architecture="a", task="b", file=make_model(), variants=("onnx-int8dyn",))) == 3
