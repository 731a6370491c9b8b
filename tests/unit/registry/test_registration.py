"""A registration, before it begins."""

from collections.abc import Callable
from pathlib import Path

from registry.register import step_count
from registry.registration import Registration


async def test_the_number_of_steps_is_known_beforehand(make_model: Callable[..., Path]) -> None:
    request = Registration(architecture="a", task="b", file=make_model(), variants=("onnx-int8dyn",))
    assert await step_count(request) == 3
