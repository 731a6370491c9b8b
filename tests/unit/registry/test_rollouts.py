"""What may be done with the versions of a model, and in what order."""

import pytest

from registry.rollouts import canary, finished, rolled_back, shadow
from schemas.errors import OperatorError
from schemas.rows.rollout import Rollout, VersionEventKind

ONE = Rollout(model="net", serving=1)


def test_a_canary_grows_and_serves_in_the_end() -> None:
    tried, event = canary(ONE, 2, 0.05, "ann@here")
    assert (tried.serving, tried.candidate, tried.share) == (1, 2, 0.05)
    assert (event.version, event.kind, event.by) == (2, VersionEventKind.CANARY, "ann@here")
    more, _ = canary(tried, 2, 0.5, "")
    done, event = finished(more, 2, VersionEventKind.FINISHED, "")
    assert done == Rollout(model="net", serving=2, previous=1)
    assert event.detail == "instead of version 1"


def test_copies_and_a_share_go_together() -> None:
    both, _ = shadow(canary(ONE, 2, 0.05, "")[0], 2, 0.1, "")
    assert (both.share, both.shadow) == (0.05, 0.1)
    assert rolled_back(both, "")[0] == ONE


def test_a_rollback_takes_back_what_is_tried_and_then_what_was_finished() -> None:
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


def test_one_version_is_tried_at_a_time_and_never_the_one_that_serves() -> None:
    tried, _ = canary(ONE, 2, 0.05, "")
    with pytest.raises(OperatorError, match="version 2 of net is being tried"):
        canary(tried, 3, 0.05, "")
    with pytest.raises(OperatorError, match="version 2 of net is being tried"):
        finished(tried, 3, VersionEventKind.FINISHED, "")
    with pytest.raises(OperatorError, match="serves already"):
        shadow(ONE, 1, 0.05, "")
