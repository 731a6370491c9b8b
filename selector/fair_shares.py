"""Whose turn it is among tenants that have something to do: who was given the least so far. Pure.

Start-time fair queueing (Goyal, 1996): each that has something is given as much as the others, counted in what it
costs. Who had nothing begins with as much as the one who was given least, so that nobody saves up turns.

A name may be no more than what a client says, and one that invents many would get a turn for each. So it is as under
overload (`selector.overload`): tenants that are listed have turns of their own, always, a few others have, those that
came first and go on asking, and all the rest are one.
"""

from collections.abc import Collection
from typing import Final, TypeAlias

OTHERS: Final = ""
Account: TypeAlias = str | None
"""A tenant with turns of its own, None being one, too; or all others."""


class FairShares:
    """Cost that each tenant with something to do was given."""

    def __init__(self, listed: Collection[str] = (), most_unlisted: int = 16) -> None:
        self._listed = frozenset(listed)
        self._most_unlisted = most_unlisted
        self._unlisted: set[Account] = set()
        self._given: dict[Account, float] = {}

    def account(self, tenant: str | None) -> Account:
        """As whom a tenant takes turns."""
        if tenant in self._unlisted or tenant in self._listed:
            return tenant
        if len(self._unlisted) >= self._most_unlisted:
            return OTHERS
        self._unlisted.add(tenant)
        return tenant

    def begin(self, accounts: Collection[Account]) -> None:
        """Count on these, which have something to do; of others nothing is remembered."""
        self._unlisted.intersection_update(accounts)
        known = {account: given for account, given in self._given.items() if account in accounts}
        # Counted from the least, or sums would grow until they lost what is added.
        least = min(known.values(), default=0.0)
        self._given = {account: known.get(account, least) - least for account in accounts}

    def given(self, account: Account) -> float:
        """What one that has something to do was given: the turn is whose is the least."""
        return self._given[account]

    def give(self, account: Account, cost: float) -> None:
        """Count what one is given."""
        self._given[account] += cost
