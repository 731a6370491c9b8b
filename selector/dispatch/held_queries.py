"""Offline queries that were read and wait for an idle instance: their limits, and the turns of their tenants.

Pure: the caller passes the time, and forwards, moves or refuses the queries. Queries of a task's topic are held by
tenant, those of a lane or of a tenant's own topic together.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import count
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar
from zlib import crc32

from schemas.query import Query
from schemas.topics import LANE_COUNT, LANES, tenant_of
from selector.admission.tenant_shares import Account, FairShares, TenantAccounts
from selector.policy.choice import PolicyConfig
from selector.policy.entities import Instance

HELD: Final = 256
"""Maximum of held queries per tenant of a task's topic, per lane, and per tenant's own topic."""
HELD_OF_TASK: Final = 1024
"""Maximum of held queries of all tenants of a task's topic."""
_HELD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of queries, per `HELD`, from which on no more are held."""
_HELD_BYTES_OF_TASK: Final = 4 * _HELD_BYTES
_SPACING_S: Final = 0.002
_PASSES_SHARE: Final = 0.1
_PUT_BACK_S: Final = 1.0
"""Seconds that a query is held before it is put back."""
_LEAST_COST_S: Final = 50e-6
"""Least seconds per input, for reading and answering it."""

T = TypeVar("T")
Source: TypeAlias = str | tuple[str, int]
"""A topic, or one partition of it."""


class Place(NamedTuple):
    """Place of a query in the log."""

    topic: str
    partition: int
    offset: int

    @property
    def is_of_task(self) -> bool:
        """True if it is in a task's topic, which all tenants share."""
        return self.topic != LANES and tenant_of(self.topic) is None


@dataclass(slots=True, eq=False)
class HeldQuery(Generic[T]):
    """A query that is held."""

    query: Query
    item: T
    """The caller's own data of the query."""
    place: Place
    size: int
    """Bytes of its value."""
    since_s: float
    passed: int
    """Value of its group's `passed` when it was read."""
    account: Account
    group: "_Group[T]"

    @property
    def lane(self) -> int | None:
        """Lane that holds it; None if it is in another topic."""
        return self.place.partition if self.place.topic == LANES else None


@dataclass(slots=True, eq=False)
class _Group(Generic[T]):
    """Queries held of one tenant of a task's topic, of a lane, or of a tenant's own topic, in reading order."""

    source: Source
    """Topic or partition that is not read while this is full."""
    queries: dict[Place, HeldQuery[T]] = field(default_factory=dict[Place, HeldQuery[T]])
    bytes: int = 0
    passed: int = 0
    """Number of queries forwarded or moved."""

    @property
    def is_full(self) -> bool:
        return len(self.queries) >= HELD or self.bytes >= _HELD_BYTES


@dataclass(slots=True, eq=False)
class _OfTask:
    """Number and bytes of held queries of a task's topic."""

    queries: int = 0
    bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.queries >= HELD_OF_TASK or self.bytes >= _HELD_BYTES_OF_TASK


class HeldQueries(Generic[T]):
    """Held queries of one selector.

    Args:
        config: tenants with an account of their own.
        leave_out: called with the topics and partitions that must not be read, when they change.
    """

    def __init__(self, config: PolicyConfig, leave_out: Callable[[Collection[Source]], None]) -> None:
        self._leave_out = leave_out
        self._groups: dict[object, _Group[T]] = {}
        """Groups by topic and tenant, by partition of a lane, or by a tenant's own topic."""
        self._of_task: defaultdict[str, _OfTask] = defaultdict(_OfTask)
        """Held queries by task topic."""
        self._accounts = TenantAccounts(config.tenants, config.max_unlisted_tenants)
        self._shares = FairShares(self._accounts)
        self._full: set[Source] = set()
        self._serial = count().__next__

    def __bool__(self) -> bool:
        """Return false if no query is held."""
        return any(group.queries for group in self._groups.values())

    def __len__(self) -> int:
        return sum(len(group.queries) for group in self._groups.values())

    def of_lanes(self) -> dict[str, int]:
        """Return the number of held queries of lanes, by task."""
        lanes = (group for group in self._groups.values() if isinstance(group.source, tuple))
        return Counter(held.query.task for group in lanes for held in group.queries.values())

    def hold(self, query: Query, item: T, place: Place, size: int, now_s: float) -> int | None:
        """Hold a query of `size` bytes, or return the lane to move it to, because its tenant's limit is reached."""
        account = self._accounts.of(query.tenant)
        key, source = _where(place, account)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(source)
        if place.is_of_task and (group.is_full or self._of_task[place.topic].is_full):
            group.passed += 1
            return lane_of(query.task, account)
        group.queries[place] = HeldQuery(query, item, place, size, now_s, group.passed, account, group)
        group.bytes += size
        if place.is_of_task:
            of_task = self._of_task[place.topic]
            of_task.queries += 1
            of_task.bytes += size
        elif group.is_full:
            self._full.add(source)
            self._leave_out(self._full)
        return None

    def turns(self) -> Iterator[HeldQuery[T]]:
        """Yield each query held now and not released meanwhile, tenants in turn.

        Between two queries, the caller may release queries and count them as forwarded, which affects the next turns.
        """
        each = [list(group.queries.values()) for group in self._groups.values() if group.queries]
        self._shares.begin({held.account for queries in each for held in queries})
        turns: list[tuple[float, int, list[HeldQuery[T]]]] = []
        for queries in each:
            queries.reverse()
            turns.append((self._shares.given(queries[-1].account), self._serial(), queries))
        heapify(turns)
        while turns:
            given, _serial, queries = turns[0]
            present = self._shares.given(queries[-1].account)
            if given < present:  # its account got a turn in another group meanwhile
                heapreplace(turns, (present, self._serial(), queries))
                continue
            held = queries.pop()
            if held.place in held.group.queries:
                yield held
            if queries:
                heapreplace(turns, (self._shares.given(queries[-1].account), self._serial(), queries))
            else:
                heappop(turns)
        self._groups = {key: group for key, group in self._groups.items() if group.queries}

    def release(self, held: HeldQuery[T]) -> None:
        """Hold a query no longer."""
        place, group = held.place, held.group
        if group.queries.pop(place, None) is None:
            return
        group.bytes -= held.size
        if place.is_of_task:
            of_task = self._of_task[place.topic]
            of_task.queries -= 1
            of_task.bytes -= held.size
            if not of_task.queries:
                del self._of_task[place.topic]
        elif group.source in self._full and not group.is_full:
            self._full.discard(group.source)
            self._leave_out(self._full)

    def forwarded(self, held: HeldQuery[T], instance: Instance) -> None:
        """Count a query, already released, as forwarded to an instance, at its tenant's cost."""
        held.group.passed += 1
        input_s = instance.model.input_s() * instance.slowdown * instance.width
        self._shares.give(held.account, held.query.batch * max(input_s, _LEAST_COST_S))

    def is_in_the_way(self, held: HeldQuery[T], now_s: float) -> bool:
        """Return true if a query without an instance blocks others, so that it must be put back."""
        group = held.group
        blocks = group.is_full or group.passed - held.passed >= HELD
        return blocks and now_s - held.since_s > _PUT_BACK_S

    def drop(self, partitions: Collection[tuple[str, int]] | None = None) -> list[HeldQuery[T]]:
        """Release all queries of these partitions (None: of all), and return them."""
        dropped = [
            held
            for group in self._groups.values()
            for held in group.queries.values()
            if partitions is None or held.place[:2] in partitions
        ]
        for held in dropped:
            self.release(held)
        return dropped


def pause_s(in_vain_s: float) -> float:
    """Return the seconds until the next pass, after one that took `in_vain_s` without success (0 after a success)."""
    return max(_SPACING_S, in_vain_s / _PASSES_SHARE)


def lane_of(task: str, account: Account) -> int:
    """Return the lane (partition of the lanes' topic) of a tenant's queries of a task."""
    return crc32(f"{task} {account}".encode()) % LANE_COUNT


def _where(place: Place, account: Account) -> tuple[object, Source]:
    """Return the group that a query is held in, and the source that is not read while the group is full."""
    if place.topic == LANES:
        lane = (LANES, place.partition)
        return lane, lane
    if tenant_of(place.topic) is not None:
        return place.topic, place.topic
    return (place.topic, account), place.topic
