"""Tests of the steps of batches."""

import pytest

from gateway.openai.batch_keeper import lines_at_once
from schemas.access import Principal, quota_of


@pytest.mark.parametrize(("per_second", "lines"), [(None, 200), (0.5, 1), (20.5, 20), (9000.0, 200)])
def test_lines_at_once_are_those_of_a_second(per_second: float | None, lines: int) -> None:
    quota = quota_of(per_second, None)
    assert lines_at_once(Principal(name="k", tenant="acme", roles=frozenset(), quota=quota)) == lines
