"""Tests of `FairShares`: the turns of tenants by the cost that each was given."""

from hypothesis import given
from hypothesis import strategies as st

from selector.admission.tenant_shares import OTHERS, FairShares, TenantAccounts

costs = st.lists(st.floats(0.001, 10.0), min_size=1, max_size=40)


def turns(shares: FairShares, queries: dict[str, list[float]]) -> list[tuple[str, float]]:
    """Return tenants and costs in the order of their turns, until one tenant has no queries left."""
    left = {tenant: list(reversed(each)) for tenant, each in queries.items()}
    order: list[tuple[str, float]] = []
    while all(left.values()):
        shares.begin(left.keys())
        tenant = min(left, key=shares.given)
        cost = left[tenant].pop()
        shares.give(tenant, cost)
        order.append((tenant, cost))
    return order


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), costs, min_size=1))
def test_fair_shares_differ_by_no_more_than_a_query(queries: dict[str, list[float]]) -> None:
    sums = dict.fromkeys(queries, 0.0)
    most = max(max(each) for each in queries.values())
    for tenant, cost in turns(FairShares(TenantAccounts()), queries):
        sums[tenant] += cost
        assert max(sums.values()) - min(sums.values()) <= most + 1e-6


def test_fair_shares_group_unlisted_tenants() -> None:
    accounts = TenantAccounts(["acme"], most_unlisted=2)
    names = [f"invented-{number}" for number in range(5)]
    found = [accounts.of(name) for name in [*names, None, "acme"]]
    assert found == [names[0], names[1], OTHERS, OTHERS, OTHERS, OTHERS, "acme"]
    FairShares(accounts).begin([names[1], OTHERS])
    assert [accounts.of(name) for name in (names[4], names[1], names[0])] == [names[4], names[1], OTHERS]


@given(costs, costs)
def test_fair_shares_keep_no_credit_or_debt(first: list[float], second: list[float]) -> None:
    shares = FairShares(TenantAccounts())
    for cost in first:
        shares.begin(["busy"])
        shares.give("busy", cost)
    shares.begin(["busy", "returns"])
    assert shares.given("returns") == shares.given("busy"), "who had nothing begins with as much as the others"
    for cost in second:
        shares.give("returns", cost)
    shares.begin(["busy"])
    shares.begin(["busy", "returns"])
    assert shares.given("returns") == shares.given("busy"), "and owes nothing when it comes back"
