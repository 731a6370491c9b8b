"""Which tasks may have cascades."""

import pytest
from msgspec.structs import replace

from registry.composites.cascades import check_cascadable
from schemas.errors import InvalidRequest
from tests.store_rows import a_task


@pytest.mark.parametrize("measure", ["1-nrmse", "f1", "agreement"])
def test_only_answers_that_are_right_or_wrong_can_be_calibrated(measure: str) -> None:
    check_cascadable(a_task())
    with pytest.raises(InvalidRequest, match=f"is measured by {measure}"):
        check_cascadable(replace(a_task(), measure=measure))


def test_answers_of_any_size_cannot_be_one() -> None:
    task = a_task()
    with pytest.raises(InvalidRequest, match="all are of one size"):
        check_cascadable(replace(task, outputs=(replace(task.outputs[0], shape=(-1, -1)),)))
