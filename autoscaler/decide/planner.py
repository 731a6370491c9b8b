"""Plans one decision after another: ranks the variants, and decides on each snapshot."""

from autoscaler.decide.decide import decide
from autoscaler.decide.pareto import (
    CoreOffers,
    VariantRanking,
    launchable_cores,
    live_cores,
    rank_variants,
    unloadable_variants,
)
from autoscaler.decide.plan import ScalePlan, SolverTargets
from autoscaler.decide.snapshot import ClusterSnapshot, Policy, ScalingLimits
from schemas.catalog import Catalog


class Planner:
    """Planner of one term of leadership. Calls must not overlap, but may come from several threads."""

    def __init__(self, limits: ScalingLimits, policy: Policy = Policy.GREEDY) -> None:
        self._limits = limits
        self._policy = policy
        self._ranked: tuple[Catalog, tuple[CoreOffers, CoreOffers], frozenset[str], VariantRanking] | None = None

    def plan(
        self, catalog: Catalog, snapshot: ClusterSnapshot, targets: SolverTargets | None = None
    ) -> tuple[VariantRanking, ScalePlan]:
        """Return the ranking of all variants, and the plan for the snapshot.

        Args:
            catalog: the registered variants and profiles.
            snapshot: the observations.
            targets: the solver's latest targets; ignored under the greedy policy.
        """
        ranking = self._ranking(catalog, snapshot)
        return ranking, decide(catalog.variants, ranking, snapshot, self._limits, self._policy, targets)

    def _ranking(self, catalog: Catalog, snapshot: ClusterSnapshot) -> VariantRanking:
        """Return the ranking, cached until the catalog, the workers' offers or failed loads change."""
        offers = live_cores(snapshot.workers), launchable_cores(snapshot.hardware)
        workers, instances = snapshot.workers, snapshot.instances
        unloadable = frozenset(unloadable_variants(catalog.variants, catalog.profiles, workers, instances))
        if self._ranked is None or self._ranked[0] is not catalog or self._ranked[1:3] != (offers, unloadable):
            variants = {name: v for name, v in catalog.variants.items() if name not in unloadable}
            ranking = rank_variants(
                variants, catalog.profiles, *offers, versions=snapshot.versions, users=snapshot.users
            )
            self._ranked = catalog, offers, unloadable, ranking
        return self._ranked[3]
