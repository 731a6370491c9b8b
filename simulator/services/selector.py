"""A simulated selector: the production policy with a view of its own, which statuses and its own sends keep current."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Final, NamedTuple

from schemas.defaults import DEMAND_INTERVAL_S
from schemas.errors import ErrorCode, Overloaded, RefusalReason, UnknownTask, Unsatisfiable
from schemas.load_classes import SelectorLoad
from schemas.rows.catalog import Profile, Variant
from schemas.status import WorkerStatus
from schemas.topics import LANES, offline_topic
from selector.admission.overload import LoadShedder
from selector.dispatch.held_queries import HeldQueries, HeldQuery, Place, Source, pause_s
from selector.dispatch.load_meter import REPORT_INTERVAL_S, LoadMeter
from selector.policy.choice import Choice, Refusal
from selector.policy.cluster_state import HOUSEKEEPING_INTERVAL_S, ClusterState
from selector.policy.entities import Instance
from selector.policy.late_binding import LateBinder, Wait
from selector.policy.partition import Partition
from selector.policy.replicas import TaskShare
from simulator.cluster.cluster import Cluster
from simulator.cluster.query import SimulatedQuery
from simulator.outcomes import QueryOutcome

_TRY_S: Final = 1.5e-6
"""CPU seconds of a pass for a held query that has to wait, as measured here."""

Refuse = Callable[[SimulatedQuery, QueryOutcome, RefusalReason | None, float | None], None]


class _Unacknowledged(NamedTuple):
    """A query that the broker has not acknowledged."""

    at_s: float
    instance: Instance | None
    partition: Partition
    offset: int
    large_inputs: int


class SimulatedSelector:
    """One selector process."""

    def __init__(
        self,
        number: int,
        cluster: Cluster,
        refuse: Refuse,
        demand: Callable[[str], None],
        report: Callable[[SelectorLoad], None],
    ) -> None:
        scenario = cluster.scenario
        self._cluster = cluster
        self._events = cluster.events
        self._refuse = refuse
        self._demand = demand
        self._report = report
        self._config = scenario.policy
        self._delays = scenario.delays
        self.state = ClusterState()
        self._shedder = LoadShedder(scenario.policy)
        self._meter = LoadMeter(f"selector-{number}")
        self._share = self.share(number, scenario.selectors)
        self._unacknowledged: deque[_Unacknowledged] = deque()
        self._demanded_s: dict[str, float] = {}
        self._queue: deque[SimulatedQuery] = deque()
        """Queries that wait for the selector's CPU."""
        self._free_s = 0.0
        """Time at which its CPU has decided on all earlier queries."""
        self.waiting_offline: Counter[str] = Counter()
        """Offline queries that wait for an idle instance, by task."""
        self._held = HeldQueries[SimulatedQuery](scenario.policy, self._leave_out)
        self._lanes: defaultdict[int, deque[SimulatedQuery]] = defaultdict(deque)
        """Queries in lanes that are not held, by lane."""
        self._left_out: frozenset[Source] = frozenset()
        self._pass_s = inf
        """Time of the next pass over the held queries."""
        self._rests_until_s = 0.0
        """Time before which no pass begins."""
        # Selectors start at different times, so their reports and housekeeping are spread over the second.
        phase = (number * 0.382) % 1.0
        self._events.after(phase * HOUSEKEEPING_INTERVAL_S, self._housekeep)
        self._events.after(phase * REPORT_INTERVAL_S, self._report_load)

    def register(self, rows: Iterable[Variant], profiles: Mapping[str, Profile]) -> None:
        """Take a new catalogue."""
        rows = list(rows)
        tasks = sorted({row.task for row in rows})
        self.state.register(tasks, rows, profiles)
        self.state.use_shares(dict.fromkeys(tasks, self._share))

    def share(self, number: int, selectors: int) -> TaskShare:
        """Return the share of each task: task topics have a partition for each selector."""
        return TaskShare(frozenset({number}), selectors)

    # -- input ---------------------------------------------------------------------------------------------------------

    def on_status(self, status: WorkerStatus) -> None:
        """Apply a status that has arrived now."""
        now = self._events.now
        self._acknowledge(now)
        self.state.apply_status(status, now, now - status.at_ms / 1e3)
        if self._held:
            self._look()

    def take(self, query: SimulatedQuery) -> None:
        """Decide on a query that has arrived now, when earlier ones are decided on."""
        now = self._events.now
        if self._queue or self._free_s > now:
            if not self._queue:
                self._events.at(self._free_s, self._take_next)
            self._queue.append(query)
        else:
            self._free_s = now + self._delays.selector_s
            self._decide(query, now)

    def _take_next(self, _argument: object) -> None:
        now = self._events.now
        self._free_s = now + self._delays.selector_s
        self._decide(self._queue.popleft(), now)
        if self._queue:
            self._events.at(self._free_s, self._take_next)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _decide(self, taken: SimulatedQuery, now: float) -> None:
        if self._unacknowledged:
            self._acknowledge(now)
        if taken.offline:
            self.waiting_offline[taken.query.task] += 1
            self._hold(taken)
            return
        query = taken.query
        outcome = self._shedder.decide(query, self.state, now)
        if isinstance(outcome, Refusal):
            self._refuse_query(taken, outcome)
            return
        outcome = self.choose_replica(outcome)
        instance, variant, partition = outcome.instance, outcome.variant, outcome.partition
        self._meter.forwarded(query, variant.name, outcome.upgraded)
        large = query.batch if instance is not None and instance.model.is_large(query.batch) else 0
        self._send(taken, outcome, now, large)
        self.state.sent(instance, partition, query.batch, now, query.due_s)
        if instance is None:
            self._demand_variant(variant.name, now)

    def choose_replica(self, choice: Choice) -> Choice:
        """Return the choice for an online query, perhaps with another replica of its variant; for baselines."""
        return choice

    def _send(self, taken: SimulatedQuery, choice: Choice, now: float, large_inputs: int) -> None:
        variant, partition = self._cluster.variants[choice.variant.name], choice.partition
        online, offline = variant.partition(partition.number)
        offset = self._cluster.send(taken, offline if partition.offline else online)
        at_s = now + self._delays.acknowledgement_s
        self._unacknowledged.append(_Unacknowledged(at_s, choice.instance, partition, offset, large_inputs))
        self._cluster.outcomes.chosen(
            taken.number, variant.number, now, cost=choice.cost, predicted_s=choice.predicted_s,
            upgraded=choice.upgraded,
        )  # fmt: skip

    def _acknowledge(self, now: float) -> None:
        waiting, acknowledged = self._unacknowledged, self.state.acknowledged
        while waiting and waiting[0].at_s <= now:
            at_s, instance, partition, offset, large_inputs = waiting.popleft()
            acknowledged(instance, partition, offset, at_s, large_inputs)

    def _refuse_query(self, taken: SimulatedQuery, refusal: Refusal) -> None:
        error, now = refusal.error, self._events.now
        if not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._meter.refused(taken.query, isinstance(error, Overloaded))
        outcome = QueryOutcome.FAILED if error.code is ErrorCode.MODEL_FAILED else QueryOutcome.REFUSED
        if error.code is ErrorCode.DEADLINE_EXCEEDED:
            outcome = QueryOutcome.EXPIRED
        self._refuse(taken, outcome, error.reason, error.retry_after_s)
        if refusal.wanted is not None:
            self._demand_variant(refusal.wanted.name, now)

    def _demand_variant(self, name: str, now: float) -> None:
        if now - self._demanded_s.get(name, -DEMAND_INTERVAL_S) >= DEMAND_INTERVAL_S:
            self._demanded_s[name] = now
            self._demand(name)

    # -- offline queries -----------------------------------------------------------------------------------------------

    def _hold(self, taken: SimulatedQuery) -> None:
        """Hold a query until it can be forwarded, or move it to a lane."""
        now, query = self._events.now, taken.query
        lane = self._held.hold(query, taken, Place(offline_topic(query.task), 0, taken.number), 0, now)
        if lane is not None:
            self._lanes[lane].append(taken)
            self._read_lanes()
        self._look()

    def _read_lanes(self) -> None:
        """Hold the queries of lanes below their limits."""
        for lane, waiting in self._lanes.items():
            while waiting and (LANES, lane) not in self._left_out:
                taken = waiting.popleft()
                self._held.hold(taken.query, taken, Place(LANES, lane, taken.number), 0, self._events.now)

    def _leave_out(self, sources: Collection[Source]) -> None:
        self._left_out = frozenset(sources)

    def _look(self, due_s: float = 0.0) -> None:
        """Schedule a pass at `due_s`, or as soon as the pause after the last one is over."""
        due_s = max(due_s, self._rests_until_s)
        if due_s < self._pass_s:
            self._pass_s = due_s
            self._events.at(due_s, self._forward_held, due_s)

    def _forward_held(self, due_s: float) -> None:
        """Forward all held queries that can go, tenants in turn, and schedule the next pass."""
        if due_s != self._pass_s:  # an earlier pass has taken its place
            return
        now, tried, gone = self._events.now, 0, 0
        self._acknowledge(now)
        binder = LateBinder(self.state, self._config)
        for held in self._held.turns():
            tried += 1
            gone += self._try(held, binder, now)
        self._read_lanes()
        self._pass_s, self._rests_until_s = inf, now + pause_s(0.0 if gone else tried * _TRY_S)
        if self._held and binder.retry_s < inf:
            self._look(now + binder.retry_s)

    def _try(self, held: HeldQuery[SimulatedQuery], binder: LateBinder, now: float) -> bool:
        """Forward a query, refuse it, or let it wait (false)."""
        taken, outcome = held.item, binder.bind(held.query, now)
        if isinstance(outcome, Wait):
            if outcome.wanted is not None:
                self._demand_variant(outcome.wanted.name, now)
                if self._held.is_in_the_way(held, now):
                    self._held.release(held)
                    self._events.after(self._delays.to_selector.p50_s, self._hold, taken)
            return False
        self._held.release(held)
        self.waiting_offline[held.query.task] -= 1
        if isinstance(outcome, Refusal):
            self._refuse_query(taken, outcome)
            return True
        instance = outcome.instance
        assert instance is not None, "an offline query is bound to an instance"
        self._held.forwarded(held, instance)
        self._meter.forwarded(held.query, outcome.variant.name, outcome.upgraded)
        self._send(taken, outcome, now, 0)
        self.state.sent_offline(instance, outcome.partition, held.query.batch, now)
        return True

    # -- periodic ------------------------------------------------------------------------------------------------------

    def _housekeep(self, _argument: object) -> None:
        self._acknowledge(self._events.now)
        self.state.expire(self._events.now)
        self.state.newly_served.clear()
        self._events.after(HOUSEKEEPING_INTERVAL_S, self._housekeep)

    def _report_load(self, _argument: object) -> None:
        self._report(self._meter.report(self._events.now * 1e3))
        self._events.after(REPORT_INTERVAL_S, self._report_load)
