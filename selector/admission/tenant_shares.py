"""Shares of tenants: accounts of tenants, max-min fair shares, and turns for offline work. Pure.

A tenant's name may be unproved, and a client that invents names would get a share for each. So listed tenants always
have an account each. A limited number of others have, in order of arrival, while they have work. All remaining tenants
share one account. This also bounds state and work.

Turns for offline work follow start-time fair queueing (Goyal, 1996): the tenant with the least cost so far is next, so
each tenant with work gets the same cost of computation. A tenant that had no work starts with the least cost of the
others, so that nobody saves up turns.
"""

from collections.abc import Collection, Sequence
from math import inf
from typing import Final, TypeAlias

OTHERS: Final = ""
Account: TypeAlias = str | None
"""A tenant with an account of its own (None, queries without a tenant, is one too), or `OTHERS`."""


class TenantAccounts:
    """Accounts of tenants: `listed` ones always have one, and at most `most_unlisted` others."""

    def __init__(self, listed: Collection[str] = (), most_unlisted: int = 16) -> None:
        self._listed = frozenset(listed)
        self._most_unlisted = most_unlisted
        self._unlisted: set[Account] = set()

    def of(self, tenant: str | None) -> Account:
        """Return the account of a tenant."""
        if tenant in self._unlisted or tenant in self._listed:
            return tenant
        if len(self._unlisted) >= self._most_unlisted:
            return OTHERS
        self._unlisted.add(tenant)
        return tenant

    def keep(self, active: Collection[Account]) -> None:
        """Free the accounts of unlisted tenants that are not `active`."""
        self._unlisted.intersection_update(active)


class FairShares:
    """Cost given so far, for each account with work."""

    def __init__(self, accounts: TenantAccounts) -> None:
        self._accounts = accounts
        self._given: dict[Account, float] = {}

    def begin(self, active: Collection[Account]) -> None:
        """Start a round with these accounts, which have work; all others are dropped."""
        self._accounts.keep(active)
        known = {account: given for account, given in self._given.items() if account in active}
        # Relative to the least, because growing sums would lose precision.
        least = min(known.values(), default=0.0)
        self._given = {account: known.get(account, least) - least for account in active}

    def given(self, account: Account) -> float:
        """Return the cost given to an account with work; the least is next."""
        return self._given[account]

    def give(self, account: Account, cost: float) -> None:
        """Add to the cost given to an account."""
        self._given[account] += cost


def fair_share(demands: Sequence[float], served: float) -> float:
    """Return the max-min fair share of `served` among the demands; infinite if all demands fit."""
    for place, minimum in enumerate(sorted(demands)):
        share = served / (len(demands) - place)
        if minimum >= share:
            return share
        served -= minimum
    return inf
