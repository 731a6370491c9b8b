"""Failed and running loads of all workers: the variants that cannot be loaded, with the reasons."""

from collections.abc import Iterable, Mapping

from schemas.status import InstanceState, InstanceStatus


class FailedLoads:
    """Failed and running loads of all workers.

    A variant cannot be loaded if some worker's status says that it failed, and no worker is loading it now. A status
    costs a look at its instances; all workers are looked at only when one has changed.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """Reasons why variants cannot be loaded, by variant."""
        self._failed: dict[str, Mapping[str, str]] = {}
        """Reasons by variant, for each worker that has any."""
        self._loading: dict[str, frozenset[str]] = {}
        """Variants that a worker is loading, for each such worker."""

    def update(self, worker: str, instances: Iterable[InstanceStatus]) -> list[str]:
        """Update a worker's instances, none if it is gone; return the variants whose state has changed."""
        failed: dict[str, str] = {}
        loading: set[str] = set()
        for reported in instances:
            if reported.state is InstanceState.FAILED:
                failed[reported.variant] = reported.reason
            elif reported.state is InstanceState.LOADING:
                loading.add(reported.variant)
        failed_before, loading_before = self._failed.pop(worker, {}), self._loading.pop(worker, frozenset())
        if failed:
            self._failed[worker] = failed
        if loading:
            self._loading[worker] = frozenset(loading)
        changed = (failed_before.keys() ^ failed.keys()) | (loading_before ^ loading)
        return [name for name in changed if self._update(name)]

    def _update(self, name: str) -> bool:
        reasons = [failed[name] for failed in self._failed.values() if name in failed]
        before = self.reasons.pop(name, None)
        if reasons and not any(name in loading for loading in self._loading.values()):
            self.reasons[name] = reasons[0]
        return self.reasons.get(name) != before
