"""Strategies of Hypothesis for catalogs, statuses of workers, and queries."""

from typing import Any

from hypothesis import strategies as st

from schemas.query import Mode
from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState, InstanceStatus, WorkerStatus
from tests.unit.selector.story import instance, registered, status

QUERY_PARTS: dict[str, st.SearchStrategy[Any]] = {
    "batch": st.sampled_from([1, 1, 2, 7, 33, 100, 5000]),
    "latency_ms": st.none() | st.floats(0.1, 10_000),
    "min_accuracy": st.none() | st.sampled_from([0.0, 0.7, 0.8, 0.8005, 0.95, 1.0]),
    "max_cost": st.none() | st.floats(0, 1e-3),
    "mode": st.sampled_from([Mode.ONLINE, Mode.ONLINE, Mode.OFFLINE]),
    "allow_late": st.booleans(),
}
"""Fields of queries without a target."""


def variants(names: list[str]) -> st.SearchStrategy[list[tuple[Variant, Profile]]]:
    """Return lists of some of these variants, a few too large for any worker."""
    return st.lists(
        st.builds(
            registered,
            st.sampled_from(names),
            ms=st.floats(0.2, 50),
            accuracy=st.sampled_from([0.5, 0.7, 0.8, 0.801, 0.9, 1.0]),
            load_s=st.floats(0.01, 3),
            memory=st.sampled_from([1000, 1 << 40]),
            max_batch=st.sampled_from([1, 4, 8]),
        ),
        max_size=8,
        unique_by=lambda variant: variant[0].name,
    )


def instances(names: list[str]) -> st.SearchStrategy[list[InstanceStatus]]:
    """Return the instances of one worker, in any state."""
    return st.lists(
        st.builds(
            instance,
            st.sampled_from(names),
            state=st.sampled_from([*InstanceState, InstanceState.ACTIVE, InstanceState.ACTIVE]),
            partitions=st.sampled_from([(), (0,), (1, 3), (0, 1, 2, 3)]),
            unread=st.sampled_from([0, 0, 1, 30, 3000]),
            queued=st.sampled_from([0, 0, 1, 20, 500]),
            slowdown=st.sampled_from([0.5, 1.0, 1.0, 3.0]),
            max_batch=st.sampled_from([1, 4, 8]),
        ),
        max_size=6,
        unique_by=lambda said: said.variant,
    )


def statuses(names: list[str]) -> st.SearchStrategy[list[tuple[WorkerStatus, float]]]:
    """Return statuses of some workers, each with its age in seconds."""

    def said(serving: list[InstanceStatus], **fields: Any) -> WorkerStatus:
        return status(*serving, **fields)

    return st.lists(
        st.tuples(
            st.builds(
                said,
                instances(names),
                worker=st.sampled_from(["w0", "w1", "w2"]),
                slots=st.sampled_from([1, 2]),
                backlog_s=st.sampled_from([0.0, 0.0, 0.05, 2.0]),
                leaving=st.sampled_from([False, False, False, True]),
            ),
            st.sampled_from([0.0, 0.0, 0.5, 1.5]),
        ),
        max_size=4,
    )
