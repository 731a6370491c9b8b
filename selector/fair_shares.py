"""Turns of tenants with offline work: the tenant with the least cost so far is next. Pure.

Start-time fair queueing (Goyal, 1996): each tenant with work gets the same cost of computation. A tenant that had no
work starts with the least cost of the others, so that nobody saves up turns.

A tenant's name may be unproved, and a client that invents names would get a turn for each. So the rule of load shedding
(`selector.overload`) holds: listed tenants always have turns of their own. A limited number of others have, in order of
arrival, while they have work. All remaining tenants share one account.
"""

from collections.abc import Collection
from typing import Final, TypeAlias

OTHERS: Final = ""
Account: TypeAlias = str | None
"""A tenant with turns of its own (None is one, too), or `OTHERS`."""


class FairShares:
    """Cost given so far, for each account with work."""

    def __init__(self, listed: Collection[str] = (), most_unlisted: int = 16) -> None:
        self._listed = frozenset(listed)
        self._most_unlisted = most_unlisted
        self._unlisted: set[Account] = set()
        self._given: dict[Account, float] = {}

    def account(self, tenant: str | None) -> Account:
        """Return the account under which a tenant takes turns."""
        if tenant in self._unlisted or tenant in self._listed:
            return tenant
        if len(self._unlisted) >= self._most_unlisted:
            return OTHERS
        self._unlisted.add(tenant)
        return tenant

    def begin(self, accounts: Collection[Account]) -> None:
        """Start a round with these accounts, which have work; all others are dropped."""
        self._unlisted.intersection_update(accounts)
        known = {account: given for account, given in self._given.items() if account in accounts}
        # Relative to the least, because growing sums would lose precision.
        least = min(known.values(), default=0.0)
        self._given = {account: known.get(account, least) - least for account in accounts}

    def given(self, account: Account) -> float:
        """Return the cost given to an account with work; the least is next."""
        return self._given[account]

    def give(self, account: Account, cost: float) -> None:
        """Add to the cost given to an account."""
        self._given[account] += cost
