"""Supernet: all variants of a task in one model, of which each batch uses another part.

Source: Khare et al., "SuperServe: Fine-Grained Inference Serving for Unpredictable Workloads", NSDI'25: SubNetAct
switches between subnets without a load; SlackFit chooses subnet and batch for each dispatch.

SlackFit sorts all pairs of subnet and batch into buckets of equal widths of latency. It takes the bucket of the longest
latency that the most urgent query can afford, and in it the largest batch. Of equal batches the most accurate is taken.
Batches larger than the queue are not considered, so that with few queries the most accurate subnet computes them.

Difference: a query that will be late even alone does not limit the batch, and joins it after the others.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, count, islice
from typing import Final, NamedTuple

from schemas.defaults import HOP_S
from schemas.latency import BATCH_OVERHEAD_S
from simulator.baselines.priced_profile import PricedProfile
from simulator.cluster.instance import InstanceHost, SimulatedBatch, SimulatedInstance
from simulator.cluster.query import SimulatedQuery
from simulator.cluster.variant import SimulatedVariant
from simulator.outcomes import QueryOutcome
from workers.slots.batch_queue import Rank, Urgency

_BUCKETS: Final = 10


class SubnetChoice(NamedTuple):
    """Choice of a subnet and a number of inputs."""

    latency_s: float
    """Latency of almost every such batch, in seconds."""
    batch: int
    name: str
    subnet: PricedProfile


def subnet_choices(subnets: Iterable[PricedProfile], queued: int) -> list[SubnetChoice]:
    """Return all pairs of subnet and batch for `queued` inputs, shortest latency first."""
    return sorted(
        SubnetChoice(one.latency.promised_s(batch) * one.spread + BATCH_OVERHEAD_S, batch, one.name, one)
        for one in subnets
        for batch in range(1, min(queued, one.max_batch) + 1)
    )


def choose_subnet(choices: Sequence[SubnetChoice], slack_s: float) -> SubnetChoice:
    """Return SlackFit's choice; if nothing fits the slack, the pair of highest throughput.

    Args:
        choices: at least one, shortest latency first.
        slack_s: seconds until the deadline of the most urgent query.
    """
    fitting = bisect_right(choices, slack_s, key=_latency_s)
    if not fitting:
        return min(choices, key=lambda one: one.latency_s / one.batch)
    least_s = choices[fitting - 1].latency_s - choices[-1].latency_s / _BUCKETS
    bucket = choices[bisect_right(choices, least_s, key=_latency_s) : fitting]
    return max(bucket, key=lambda one: (one.batch, one.subnet.accuracy, -one.latency_s))


def _latency_s(choice: SubnetChoice) -> float:
    return choice.latency_s


class SupernetQueue:
    """Queries of one task, earliest deadline first, for all workers with the supernet."""

    def __init__(
        self, subnets: Sequence[PricedProfile], choose: Callable[[SimulatedQuery, PricedProfile], None]
    ) -> None:
        """Make an empty queue; `choose` records the subnet of each query that is taken."""
        self._subnets = subnets
        self.most = max(one.max_batch for one in subnets)
        """Largest batch of a subnet."""
        self._choices: dict[tuple[float | None, str | None, int], list[SubnetChoice]] = {}
        self._choose = choose
        self._waiting: list[tuple[bool, float, int, SimulatedQuery]] = []
        self._arrivals = count(1)
        self.inputs = 0

    def __len__(self) -> int:
        """Return the number of queries that wait."""
        return len(self._waiting)

    def add(self, query: SimulatedQuery) -> None:
        """Add a query; offline ones go last."""
        insort(self._waiting, (query.offline, query.deadline_s, next(self._arrivals), query))
        self.inputs += query.inputs

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent query."""
        if not self._waiting:
            return None
        offline, deadline_s, arrival, _ = self._waiting[0]
        return (Rank.OFFLINE if offline else Rank.ONLINE), deadline_s, arrival

    def expire(self, now_s: float) -> list[SimulatedQuery]:
        """Remove the queries whose deadline has passed."""
        expired: list[SimulatedQuery] = []
        for offline, deadline_s, _, query in self._waiting:
            if deadline_s > now_s and not offline:
                break
            if deadline_s <= now_s and not query.allow_late:
                expired.append(query)
        self._remove(expired)
        return expired

    def serves(self, query: SimulatedQuery) -> bool:
        """Return true if a subnet meets the needs of a query but for latency."""
        return any(one.suits(query.query) for one in self._subnets)

    def take(self, now_s: float) -> tuple[PricedProfile, list[SimulatedQuery]]:
        """Remove the next batch, and return it with its subnet; there must be a query."""
        place = self._most_urgent(now_s)
        first = self._waiting[place][3]
        chosen = choose_subnet(self._choices_for(first), first.deadline_s - now_s - HOP_S)
        taken, left = [first], chosen.batch - first.inputs
        for *_, query in chain(islice(self._waiting, place + 1, None), islice(self._waiting, place)):
            if left <= 0:
                break
            if query.inputs <= left and query.offline == first.offline and chosen.subnet.suits(query.query):
                taken.append(query)
                left -= query.inputs
        self._remove(taken)
        for query in taken:
            self._choose(query, chosen.subnet)
        return chosen.subnet, taken

    def _most_urgent(self, now_s: float) -> int:
        """Return the place of the first query that can be in time, or else of the first."""
        for place, (_, deadline_s, _, query) in enumerate(self._waiting):
            if now_s + HOP_S + self._choices_for(query)[0].latency_s <= deadline_s:
                return place
        return 0

    def _choices_for(self, query: SimulatedQuery) -> list[SubnetChoice]:
        needs, queued = query.query.needs, min(self.inputs, self.most)
        key = needs.min_accuracy, needs.target, queued
        found = self._choices.get(key)
        if found is None:
            suiting = (one for one in self._subnets if one.suits(query.query))
            found = self._choices[key] = subnet_choices(suiting, queued)
        return found

    def _remove(self, queries: Sequence[SimulatedQuery]) -> None:
        """Remove queries; the cost grows with their distance from the head."""
        if queries:
            gone = {one.number for one in queries}
            kept: list[tuple[bool, float, int, SimulatedQuery]] = []
            seen = 0
            while len(kept) + len(gone) > seen:
                entry = self._waiting[seen]
                seen += 1
                if entry[3].number not in gone:
                    kept.append(entry)
            self._waiting[:seen] = kept
            self.inputs -= sum(one.inputs for one in queries)


class SubnetBatch(SimulatedBatch):
    """Batch that one subnet computes."""

    __slots__ = ("subnet",)

    def __init__(
        self, instance: SimulatedInstance, subnet: PricedProfile, queries: Sequence[SimulatedQuery], now: float
    ) -> None:
        inputs = sum(one.inputs for one in queries)
        super().__init__(instance, queries, inputs, subnet.latency.batch_s(inputs), now)
        self.subnet = subnet


class SupernetInstance(SimulatedInstance):
    """Supernet on one worker; it takes queries from the queue of all."""

    def __init__(self, variant: SimulatedVariant, worker: InstanceHost, queue: SupernetQueue) -> None:
        super().__init__(variant, worker, queue.most)
        self._queue = queue
        self.under_way: dict[int, SimulatedQuery] = {}
        """Queries that it computes, by number."""
        self._ends = False
        """True if it takes no more queries, because its row is gone."""

    def follow(self, wanted: Collection[int] | None, max_batch: int) -> None:
        """Follow the row; without it, end once its batches have ended and the row is followed again."""
        self._ends = wanted is None
        if not (self._ends and self.under_way):
            super().follow(wanted, self._queue.most)

    def loaded(self) -> None:
        """Begin to serve."""
        super().loaded()
        self.worker.wake()

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent query of all."""
        return None if self._ends else self._queue.urgency()

    def next_batch(self, slots: int, now_s: float) -> SimulatedBatch | None:
        """Take the next batch of the queue, if there is one."""
        for query in self._queue.expire(now_s):
            self.worker.links.answer(query, QueryOutcome.EXPIRED)
        if not len(self._queue):
            return None
        subnet, queries = self._queue.take(now_s)
        self.under_way.update((one.number, one) for one in queries)
        return SubnetBatch(self, subnet, queries, now_s)

    def batch_s(self, batch: SimulatedBatch) -> float:
        """Draw the seconds of a batch of its subnet."""
        assert isinstance(batch, SubnetBatch), "a supernet begins no other batches"
        return batch.subnet.variant.batch_s(batch.inputs)

    def computed(self, batch: SimulatedBatch, slot: int) -> None:
        """Answer the queries of a batch that has ended."""
        for part in batch.parts:
            assert isinstance(part, SimulatedQuery), "a supernet does not split queries"
            del self.under_way[part.number]
            self.worker.links.answer(part, QueryOutcome.ANSWERED)
