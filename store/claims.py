"""Claims: registrations, builds and removals are each executed by one process at a time.

    waiting <- claim, release -> running (renewed) -> ended

Rules:
* A claim holds while it is renewed, measured by the database's clock only. A row whose process is silent can be claimed
  again; `silent_s` of `claim` is the limit.
* Each claim increments the epoch of its row, and nothing decreases it. Writes with an earlier epoch change nothing, so
  a former claimant learns at its next write that it lost its claim.
* An attempt counts unless it was interrupted: released without a reason.

A table with claims has the columns `state`, `worker`, `epoch`, `attempts`, `reason` and `changed_at`. Its queries
contain `claimable`, which selects the ids of claimable rows `r` in order; $1 is the worker, $2 `silent_s`. They may
contain lists of further assignments: `on_claim`, `on_renew` (the progress, from $3), `on_complete` (the outcome, from
$4) and `on_release`.
"""

from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from store.pool import DatabaseSession, load_queries

_STATEMENTS: Final = load_queries("claims")

RowT = TypeVar("RowT", bound=msgspec.Struct)


class Claim(Protocol):
    """A claimed row, identified by its id and the epoch of the claim."""

    @property
    def id(self) -> str | int:
        """Primary key of the row."""
        ...

    @property
    def epoch(self) -> int:
        """Number of the claim."""
        ...


class ClaimKey(NamedTuple):
    """A claim without its row, for another process."""

    id: str
    epoch: int


class Claims(Generic[RowT]):
    """Claims on the rows of `table`, which are read as `row` and have the named `queries`."""

    def __init__(self, table: str, row: type[RowT], queries: Mapping[str, str]) -> None:
        def statement(name: str, assignments: str = "") -> str:
            more = queries.get(assignments)
            return _STATEMENTS[name].format(
                table=table,
                claimable=queries["claimable"],
                columns=", ".join(row.__struct_fields__),
                more=f", {more}" if more else "",
            )

        self._row = row
        self._claim = statement("claim", "on_claim")
        self._renew = statement("renew")
        self._renew_with_progress = statement("renew", "on_renew")
        self._complete = statement("complete", "on_complete")
        self._release = statement("release", "on_release")

    async def claim(self, session: DatabaseSession, worker: str, silent_s: float, *options: object) -> RowT | None:
        """Claim a row for a worker; None: there is none. `options` are further parameters of `claimable`."""
        return await session.fetch_one(self._row, self._claim, worker, silent_s, *options)

    async def renew(self, session: DatabaseSession, claim: Claim, *progress: object) -> bool:
        """Renew a claim, and store the progress if there is one; return false if the claim is lost."""
        statement = self._renew_with_progress if progress else self._renew
        return await session.execute(statement, claim.id, claim.epoch, *progress) > 0

    async def complete(self, session: DatabaseSession, claim: Claim, state: str, *outcome: object) -> bool:
        """Store the final state and the outcome; return false if the claim is lost."""
        return await session.execute(self._complete, claim.id, claim.epoch, state, *outcome) > 0

    async def release(self, session: DatabaseSession, claim: Claim, reason: str = "") -> None:
        """Release a row: the attempt was interrupted, or ended without an outcome for this `reason`."""
        await session.execute(self._release, claim.id, claim.epoch, reason)
