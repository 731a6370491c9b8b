"""Tests of `owner_of`: the valid claim among all claims of a log."""

from hypothesis import given
from hypothesis import strategies as st

from broker.system_claim import SystemClaim, owner_of

_claims = st.lists(
    st.builds(SystemClaim, system=st.sampled_from("abc"), replaces=st.sampled_from(["", "a", "b", "c"])), max_size=8
)


def test_owner_of_first_claim() -> None:
    assert owner_of([]) is None
    first, second = SystemClaim(system="a"), SystemClaim(system="b")
    assert owner_of([first, second]) is first


def test_owner_of_claim_that_replaces_the_owner() -> None:
    first = SystemClaim(system="a")
    takes = SystemClaim(system="b", replaces="a")
    late = SystemClaim(system="c", replaces="a")
    assert owner_of([first, takes, late]) is takes


@given(_claims, _claims)
def test_owner_of_ignores_later_claims_that_replace_none(before: list[SystemClaim], after: list[SystemClaim]) -> None:
    owner = owner_of(before)
    if owner is not None:
        assert owner_of([*before, *(claim for claim in after if not claim.replaces)]) == owner
