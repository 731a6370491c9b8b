"""Tests of the pace of offline work on a machine whose CPU time is in use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.offline_share import LEAST, SCARCE, SPARE, offline_pause_s, offline_share


@given(st.floats(0.0, SPARE))
def test_offline_share_is_whole_with_spare_cpu(cpu_busy: float) -> None:
    assert offline_share(cpu_busy) == 1.0


@given(st.floats(SCARCE, 1.0))
def test_offline_share_never_falls_to_zero(cpu_busy: float) -> None:
    assert offline_share(cpu_busy) == LEAST > 0.0


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_offline_share_falls_with_cpu_use(one: float, other: float) -> None:
    assert offline_share(min(one, other)) >= offline_share(max(one, other))


def test_offline_pause_grows_as_the_share_falls() -> None:
    usual_s = offline_pause_s(32, 0.01, 1.0)
    assert usual_s == pytest.approx((0.01 + 0.032) / 0.5)
    assert offline_pause_s(32, 0.01, LEAST) == pytest.approx(usual_s / LEAST)
