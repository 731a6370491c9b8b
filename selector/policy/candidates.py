"""The static part of a choice, cached per class of queries.

A query's class is (target, accuracy rank, cost rank, latency class, size, mode). Ranks count distinct registered
values, latency classes are log-spaced, and sizes are those at which prices differ. So the number of classes is bounded,
however many limits clients invent; the least recently used are dropped. A class lists candidates and never replaces the
check of live load: its latency class only excludes variants that are too slow for every query in it.

A choice iterates over the loaded variants, whose number the workers' memory bounds, instead of all registered ones.
Variants that are not loaded are reduced to their frontier, because a variant that is dearer and ready later than
another is never the answer. Only the construction of a class looks at all variants of the task. Classes are dropped
when the task's variants, or which of them are loaded, change; changes of replicas drop nothing.

Not every tenant may use every architecture. The part of a task that a tenant may use is a `TaskCandidates` of its own,
which contains nothing else, so that no choice, explanation or error can reveal more. There is one for each class of
tenants, created at first use. A task that is open to everybody has no others.
"""

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Final, TypeAlias

import msgspec

from process.security.access import STRANGERS, TenantClasses
from schemas import headers as h
from schemas.access import EVERY_TENANT, Users
from schemas.errors import InvalidRequest
from schemas.names import version_target
from schemas.query import Mode, Needs, Query
from schemas.versions import Rollout, Versions
from selector.policy.replicas import NOBODY, Replicas
from selector.policy.variants import EXACT_SIZE, PricedVariant, size_class, smallest_of
from selector.policy.worker_kind import WorkerSize

CLASSES_A_TASK: Final = 1024
VIEWS_A_TASK: Final = 256
"""Maximum number of tenant classes whose candidates are kept; each holds all variants of the task that it may use."""
_ONE_OF_EACH: Final = Versions()
_EVERYBODY: Final[Users] = {}
_OFFLINE: Final = Mode.OFFLINE
LATENCY_BOUNDS: Final = (*(0.001 * 1.25**step for step in range(63)), math.inf)
"""Upper bounds of the latency classes in seconds: 1 ms to 17 minutes, each 1.25 times the one before."""


class QueryClass(msgspec.Struct, frozen=True, gc=False):
    """A class of queries by needs, with limits rounded to registered values."""

    target: str | None
    min_accuracy: float
    max_cost: float
    latency_s: float
    size: int
    offline: bool


class Candidate:
    """A variant that meets the static needs of a class, with its instances."""

    __slots__ = ("cost", "cost_header", "ready_s", "replicas", "variant")

    def __init__(self, variant: PricedVariant, key: QueryClass, replicas: Replicas = NOBODY) -> None:
        self.variant = variant
        self.cost = variant.cost(key.size, key.offline)
        self.cost_header = repr(self.cost).encode()
        self.ready_s = variant.ready_s(key.size)
        """Seconds to load it and compute one query."""
        self.replicas = replicas
        """Its instances; updated as they come and go."""

    def order(self) -> tuple[float, float, str]:
        """Return the sort key: the cheapest first; of equal cost the more accurate."""
        return self.cost, -self.variant.accuracy, self.variant.name


class RegisteredCandidates:
    """Candidates of one query class among all registered variants, loaded or not, whatever their latency."""

    __slots__ = ("eligible", "failed", "fallback", "fastest_s", "unloaded")

    def __init__(self, task: "TaskCandidates", key: QueryClass, serving: Iterable[Candidate]) -> None:
        meeting = (Candidate(variant, key) for variant in task.variants if task.meets(variant, key))
        self.eligible = sorted(meeting, key=Candidate.order)
        """Candidates that meet the needs, the cheapest first."""
        idle = (c for c in self.eligible if c.variant.name not in task.serving)
        self.unloaded = tuple(_frontier(c for c in idle if task.is_loadable(c.variant)))
        """Candidates that could be loaded: the cheapest first, each ready sooner than all before it."""
        able = [c for c in self.eligible if not task.load_failure(c.variant)]
        self.fallback = min(able, key=task.likelihood, default=None)
        """Candidate to wait for while nothing serves: formerly served ones first, then loadable ones."""
        self.failed = self.eligible[0] if self.eligible and not able else None
        """The cheapest candidate, if all have failed to load."""
        minimum = smallest_of(key.size)
        promised = [c.variant.model.query_s(minimum) for c in self.eligible]
        promised += [c.replicas.promised_s(minimum) for c in serving]
        self.fastest_s = min(promised, default=math.inf)
        """Latency in seconds of the fastest variant, without hops; infinite without any."""


class Candidates:
    """Candidates of one query class: the loaded ones at once, the others at first use."""

    def __init__(self, task: "TaskCandidates", key: QueryClass) -> None:
        self._task = task
        self._key = key
        self._nearest: Candidate | None = None
        place = bisect_left(LATENCY_BOUNDS, key.latency_s)
        self.above_s = LATENCY_BOUNDS[place - 1] if place else -math.inf
        """Lower bound, not included, of that time."""
        self.latency_s = key.latency_s
        """Upper bound in seconds of the time in which queries of the class must be computed."""
        minimum = smallest_of(key.size)
        fast = [
            Candidate(replicas.first().variant, key, replicas)
            for replicas in task.serving.values()
            if replicas.promised_s(minimum) <= key.latency_s and task.has(replicas.first().variant)
        ]
        serving = [c for c in fast if task.meets(c.variant, key)]
        serving += task.stand_ins(fast, serving, key)
        self.serving = tuple(sorted(serving, key=Candidate.order))
        """Loaded candidates that meet the needs, the cheapest first."""
        self.upgrades = tuple(sorted((c for c in fast if task.is_target(c.variant, key.target)), key=_by_accuracy))
        """Candidates for upgrades, the most accurate first, whatever their cost."""

    @cached_property
    def registered(self) -> RegisteredCandidates:
        """Candidates among all registered variants."""
        return RegisteredCandidates(self._task, self._key, self.serving)

    def nearest(self, distance: Callable[[Candidate], float]) -> Candidate | None:
        """Return the registered candidate with the least `distance`, computed at the first call.

        That of a generative answer is computed at each call, because its needs for tokens are no part of the class.
        """
        task, key = self._task, self._key
        if self._nearest is None or task.is_generative:
            targets = (Candidate(variant, key) for variant in task.variants if task.is_target(variant, key.target))
            self._nearest = min(targets, key=distance, default=None)
        return self._nearest


WorkerSizes: TypeAlias = frozenset[WorkerSize]
NO_ROOM: Final[WorkerSizes] = frozenset()


class TaskCandidates:
    """Variants of one task with their replicas, and the cached classes of queries.

    `loadable` are the sizes of present workers by hardware; `failed` holds the reasons of variants that cannot be
    loaded; `users` are the tenants that may use the task and its architectures, public names absent.
    """

    def __init__(
        self,
        name: str,
        variants: Iterable[PricedVariant],
        loadable: Mapping[str, WorkerSizes],
        failed: Mapping[str, str],
        measure: str,
        versions: Versions = _ONE_OF_EACH,
        users: Users = _EVERYBODY,
    ) -> None:
        self.name = name
        self.users = users
        self.tenants = TenantClasses(users) if users else None
        """Classes of tenants by the parts that they may use; None if everybody may use everything."""
        self.tenant_class = STRANGERS if self.tenants is None else self.tenants.of(EVERY_TENANT)
        """The class of tenants that may use exactly these variants."""
        self.views: OrderedDict[str | None, TaskCandidates] = OrderedDict()
        """Parts that other classes of tenants may use, the most recently used last."""
        self.versions = versions
        self.canaries = tuple(rollout for rollout in versions.rollouts.get(name, ()) if rollout.is_canary)
        """Rollouts whose candidate answers a share of the model's queries."""
        self.shadows = tuple(rollout for rollout in versions.rollouts.get(name, ()) if rollout.is_shadowed)
        """Rollouts whose candidate gets copies of a share of the model's queries."""
        self.measure = measure
        """Measure of quality that `accuracy` means for this task."""
        self.variants = tuple(variants)
        self.is_generative = any(variant.generation is not None for variant in self.variants)
        """True if its answers are texts that are made token by token."""
        self.serving: dict[str, Replicas] = {}
        """Replicas by variant; in a part for some tenants, those of the whole task."""
        self.formerly_served: set[str] = set()
        """Variants that lost their last instance, and are likely to return."""
        self._loadable = loadable
        self._failed = failed
        self._accuracies = sorted({variant.accuracy for variant in self.variants})
        self._costs: dict[tuple[int, bool], list[float]] = {}
        self._targets_of = {v.architecture: versions.targets_of(v.architecture) for v in self.variants}
        self._targets = {v.name for v in self.variants}.union(*self._targets_of.values())
        self.version_names = {name: versions.version_of(name) for name in self._targets_of if name in versions.targets}
        """Version name of each architecture whose model has several versions."""
        self._answering = {
            rollout.model: {name for name, found in self._targets_of.items() if found & rollout.answering_targets}
            for rollout in versions.rollouts.get(name, ())
        }
        self._classes: OrderedDict[tuple[str | None, int, int, int, int, bool], Candidates] = OrderedDict()
        self._last: tuple[Needs, int, Candidates] | None = None
        """Needs, batch and candidates of the last query; queries of one kind often follow one another."""

    def has_target(self, target: str | None) -> bool:
        """Return true if `target` is a variant or an architecture of this task, or None for any."""
        return target is None or target in self._targets

    def invalidate(self) -> None:
        """Drop the cached classes, because the loaded or loadable variants have changed."""
        self._classes.clear()
        self._last = None
        for view in self.views.values():
            view.invalidate()

    def use_prices(self) -> None:
        """Drop what was computed from the prices of the variants, because they have changed."""
        self._costs.clear()
        self._classes.clear()
        self._last = None
        for view in self.views.values():
            view.use_prices()

    def seen_by(self, tenant: str | None) -> "TaskCandidates | None":
        """Return the part of the task that a tenant may use; None if the tenant may not use the task."""
        if self.tenants is None:  # the usual case
            return self
        tenant_class = self.tenants.of(tenant)
        if tenant_class == self.tenant_class:
            return self
        found = self.views.get(tenant_class)
        if found is not None:
            self.views.move_to_end(tenant_class)
            return found
        return self._view(self.tenants, tenant_class) if self.tenants.may_use(tenant_class, self.name) else None

    def _view(self, tenants: TenantClasses, tenant_class: str | None) -> "TaskCandidates":
        variants = [v for v in self.variants if tenants.may_use(tenant_class, v.architecture)]
        rollouts = self.versions.rollouts.get(self.name, ())
        versions = Versions(
            {name: found for name, found in self.versions.targets.items() if tenants.may_use(tenant_class, name)},
            {self.name: tuple(one for one in rollouts if tenants.may_use(tenant_class, one.model))},
        )
        view = TaskCandidates(self.name, variants, self._loadable, self._failed, self.measure, versions)
        view.serving, view.formerly_served, view.tenant_class = self.serving, self.formerly_served, tenant_class
        self.views[tenant_class] = view
        if len(self.views) > VIEWS_A_TASK:
            self.views.popitem(last=False)
        return view

    def has(self, variant: PricedVariant) -> bool:
        """Return true if a variant is part of this view."""
        return variant.architecture in self._targets_of

    def candidates(self, needs: Needs, batch: int, latency_s: float) -> Candidates:
        """Return the candidates for a query of a known target that must be computed within `latency_s`."""
        if self._last is not None:
            last_needs, last_batch, last = self._last
            if needs is last_needs and batch == last_batch and last.above_s < latency_s <= last.latency_s:
                return last
        found = self._of_class(needs, batch, latency_s)
        self._last = needs, batch, found
        return found

    def _of_class(self, needs: Needs, batch: int, latency_s: float) -> Candidates:
        if not self.is_generative:
            _check_needs(needs)
        size = batch if batch <= EXACT_SIZE else size_class(batch)
        offline = needs.mode is _OFFLINE
        low, high = needs.min_accuracy, needs.max_cost
        accuracy_rank = 0 if low is None else bisect_left(self._accuracies, low)
        cost_rank = -1 if high is None else bisect_right(self._costs_of(size, offline), high)
        latency_class = bisect_left(LATENCY_BOUNDS, latency_s)
        ranks = (needs.target, accuracy_rank, cost_rank, latency_class, size, offline)
        found = self._classes.get(ranks)
        if found is not None:
            self._classes.move_to_end(ranks)
            return found
        key = QueryClass(
            target=needs.target,
            min_accuracy=self._accuracies[accuracy_rank] if accuracy_rank < len(self._accuracies) else math.inf,
            max_cost=self._max_cost(size, offline, cost_rank),
            latency_s=LATENCY_BOUNDS[latency_class],
            size=size,
            offline=offline,
        )
        built = self._classes[ranks] = Candidates(self, key)
        if len(self._classes) > CLASSES_A_TASK:
            self._classes.popitem(last=False)
        return built

    def meets(self, variant: PricedVariant, key: QueryClass) -> bool:
        """Return true if the variant matches the target and is accurate and cheap enough."""
        return (
            variant.accuracy >= key.min_accuracy
            and self.is_target(variant, key.target)
            and (key.max_cost == math.inf or variant.cost(key.size, key.offline) <= key.max_cost)
        )

    def is_target(self, variant: PricedVariant, target: str | None) -> bool:
        """Return true if `target` is the variant, its version, or a model whose serving version it belongs to."""
        return target == variant.name or target in self._targets_of[variant.architecture]

    def may_draw(self, query: Query) -> bool:
        """Return true if a canary draws the query, unless a variant of another model answers it."""
        return any(rollout.concerns(query.needs.target) and rollout.draws(query.id) for rollout in self.canaries)

    def drawn(self, query: Query, chosen: PricedVariant | None) -> Rollout | None:
        """Return the rollout whose candidate must answer the query instead of `chosen`; None if no rollout draws it."""
        for rollout in self.canaries:
            if rollout.concerns(query.needs.target) and (chosen is None or self.is_version_of(rollout, chosen)):
                return rollout if rollout.draws(query.id) else None
        return None

    def is_version_of(self, rollout: Rollout, variant: PricedVariant) -> bool:
        """Return true if the variant is of a version that answers for the rollout's model, without its candidate."""
        return variant.architecture in self._answering[rollout.model]

    def stand_ins(
        self, loaded: Iterable[Candidate], serving: Collection[Candidate], key: QueryClass
    ) -> Iterable[Candidate]:
        """Yield candidates of the previous version for models whose serving version is not loaded for the class.

        So a new version takes over when it is loaded, and not before.
        """
        for rollout in self.versions.rollouts.get(self.name, ()):
            if rollout.previous is None or not rollout.concerns(key.target):
                continue
            if not any(self.is_version_of(rollout, candidate.variant) for candidate in serving):
                named = msgspec.structs.replace(key, target=version_target(rollout.model, rollout.previous))
                yield from (candidate for candidate in loaded if self.meets(candidate.variant, named))

    def is_loadable(self, variant: PricedVariant) -> bool:
        """Return true if a present worker is large enough for the variant, and none has just failed to load it."""
        rooms = self._loadable.get(variant.hardware, NO_ROOM)
        fits = any(variant.memory_bytes <= room.memory and variant.threads <= room.cores for room in rooms)
        return fits and variant.name not in self._failed

    def likelihood(self, candidate: Candidate) -> tuple[bool, bool]:
        """Return the sort key of candidates that no worker has loaded: the most likely to be loaded soon first."""
        return candidate.variant.name not in self.formerly_served, not self.is_loadable(candidate.variant)

    def load_failure(self, variant: PricedVariant) -> str:
        """Return the reason why the variant cannot be loaded; empty if it can."""
        return self._failed.get(variant.name, "")

    def _costs_of(self, size: int, offline: bool) -> list[float]:
        known = self._costs.get((size, offline))
        if known is None:
            known = self._costs[size, offline] = sorted({variant.cost(size, offline) for variant in self.variants})
        return known

    def _max_cost(self, size: int, offline: bool, cost_rank: int) -> float:
        if cost_rank < 0:
            return math.inf
        return self._costs_of(size, offline)[cost_rank - 1] if cost_rank else -math.inf


def _check_needs(needs: Needs) -> None:
    """Raise `InvalidRequest` for needs that only answers made of tokens have: else they would be ignored silently."""
    for name in h.GENERATIVE_NEEDS:
        if getattr(needs, name) is not None:
            raise InvalidRequest(f"header {h.NEEDS[name]}: the task is not generative, its answers have no tokens")


def _by_accuracy(candidate: Candidate) -> tuple[float, float, str]:
    return -candidate.variant.accuracy, candidate.cost, candidate.variant.name


def _frontier(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    soonest = math.inf
    for candidate in candidates:
        if candidate.ready_s < soonest:
            soonest = candidate.ready_s
            yield candidate
