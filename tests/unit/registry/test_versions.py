"""Tests of the transitions of a rollout."""

import pytest

from registry.versions import canary, finished, rolled_back, shadow
from schemas.errors import OperatorError
from schemas.versions import Rollout, VersionEventKind

ONE = Rollout(model="net", serving=1)


def test_canary_grows_until_finished() -> None:
    tried, event = canary(ONE, 2, 0.05, "ann@here")
    assert (tried.serving, tried.candidate, tried.share) == (1, 2, 0.05)
    assert (event.version, event.kind, event.by) == (2, VersionEventKind.CANARY, "ann@here")
    more, _ = canary(tried, 2, 0.5, "")
    done, event = finished(more, 2, VersionEventKind.FINISHED, "")
    assert done == Rollout(model="net", serving=2, previous=1)
    assert event.detail == "instead of version 1"


def test_shadow_and_canary_can_be_combined() -> None:
    both, _ = shadow(canary(ONE, 2, 0.05, "")[0], 2, 0.1, "")
    assert (both.share, both.shadow) == (0.05, 0.1)
    assert rolled_back(both, "")[0] == ONE


def test_rollback_reverts_candidate_then_finished_version() -> None:
    served, _ = finished(ONE, 2, VersionEventKind.SERVING, "")
    tried, _ = canary(served, 3, 0.5, "")
    back, event = rolled_back(tried, "")
    assert back == served
    assert event.version == 3
    back, event = rolled_back(back, "")
    assert back == ONE
    assert event.version == 2
    with pytest.raises(OperatorError, match="nothing to roll back"):
        rolled_back(back, "")


def test_rollout_refuses_second_candidate_and_serving_version() -> None:
    tried, _ = canary(ONE, 2, 0.05, "")
    with pytest.raises(OperatorError, match="version 2 of net is under trial"):
        canary(tried, 3, 0.05, "")
    with pytest.raises(OperatorError, match="version 2 of net is under trial"):
        finished(tried, 3, VersionEventKind.FINISHED, "")
    with pytest.raises(OperatorError, match="is serving already"):
        shadow(ONE, 1, 0.05, "")
