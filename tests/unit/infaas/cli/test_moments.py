"""Tests of `parse_duration`."""

import pytest

from infaas.cli.moments import parse_duration
from schemas.errors import OperatorError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5s", 1.5), ("15m", 900), ("2h30m", 9000), (" 1h1m1s ", 3661)]
)
def test_parse_duration_reads_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5d", "-1s", "1s1h"])
def test_parse_duration_refuses_other_text(text: str) -> None:
    with pytest.raises(OperatorError, match="write 90s, 15m or 2h30m"):
        parse_duration(text)
