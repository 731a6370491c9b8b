"""Tests of the steps of batches."""

from unittest.mock import Mock

import pytest

from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.openai.batch_keeper import BatchKeeper, lines_at_once
from schemas.access import ANYONE, Principal, quota_of
from schemas.rows.batches import BatchRow
from store.batches import FailedLine


@pytest.mark.parametrize(("per_second", "lines"), [(None, 200), (0.5, 1), (20.5, 20), (9000.0, 200)])
def test_lines_at_once_are_those_of_a_second(per_second: float | None, lines: int) -> None:
    quota = quota_of(per_second, None)
    assert lines_at_once(Principal(name="k", tenant="acme", roles=frozenset(), quota=quota)) == lines


def test_batch_keeper_fails_line_that_meets_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the batch would wait at this line until its window ends."""
    models = Mock(spec=ModelDirectory)
    models.seen_by.side_effect = TypeError("a defect")
    keeper = BatchKeeper(Mock(), Mock(), models, Mock(), lambda: 0, 1000, 1.0, QuotaMeters())
    batch = Mock(spec=BatchRow, id="b", tenant="", endpoint="/v1/embeddings")
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {}}'
    made = keeper._job(batch, ANYONE, 3, line, "j")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(made, FailedLine)
    assert made.line.custom_id == "a"
    assert "a defect" in caplog.text
