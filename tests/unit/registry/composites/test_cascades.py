"""Tests of the conditions that a task must meet for a cascade."""

import pytest
from msgspec.structs import replace

from registry.composites.cascades import check_cascadable
from schemas.errors import InvalidRequest
from tests.store_rows import a_task


@pytest.mark.parametrize("measure", ["1-nrmse", "f1", "agreement"])
def test_check_cascadable_requires_accuracy_by_right_answers(measure: str) -> None:
    check_cascadable(a_task())
    with pytest.raises(InvalidRequest, match=f"is measured by {measure}"):
        check_cascadable(replace(a_task(), measure=measure))


def test_check_cascadable_requires_outputs_of_fixed_size() -> None:
    task = a_task()
    with pytest.raises(InvalidRequest, match="must have one size"):
        check_cascadable(replace(task, outputs=(replace(task.outputs[0], shape=(-1, -1)),)))
