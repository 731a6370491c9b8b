"""The claim that counts, of all that stand in the log."""

from hypothesis import given
from hypothesis import strategies as st

from broker.system_claim import SystemClaim, owner_of

_claims = st.lists(
    st.builds(SystemClaim, system=st.sampled_from("abc"), replaces=st.sampled_from(["", "a", "b", "c"])), max_size=8
)


def test_owner_is_the_first_claim() -> None:
    assert owner_of([]) is None
    first, second = SystemClaim(system="a"), SystemClaim(system="b")
    assert owner_of([first, second]) is first


def test_owner_changes_by_naming_the_one_replaced() -> None:
    first = SystemClaim(system="a")
    takes = SystemClaim(system="b", replaces="a")
    late = SystemClaim(system="c", replaces="a")
    assert owner_of([first, takes, late]) is takes


@given(_claims, _claims)
def test_later_first_claims_change_no_owner(before: list[SystemClaim], after: list[SystemClaim]) -> None:
    owner = owner_of(before)
    if owner is not None:
        assert owner_of([*before, *(claim for claim in after if not claim.replaces)]) == owner
