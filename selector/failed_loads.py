"""Variants that cannot be loaded, as workers say: some worker has failed to load it, and none loads it now.

What a status costs here is a look at its instances; all workers are looked at only when one has changed its mind.
"""

from collections.abc import Iterable, Mapping

from schemas.status import InstanceState, InstanceStatus


class FailedLoads:
    """What workers have failed to load, and what they load."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """Reasons why variants cannot be loaded, by their names."""
        self._failed: dict[str, Mapping[str, str]] = {}
        """Reasons by variant, of each worker that has any."""
        self._loading: dict[str, frozenset[str]] = {}
        """Variants that a worker loads, of each that does."""

    def update(self, worker: str, instances: Iterable[InstanceStatus]) -> list[str]:
        """Note the instances of a worker, none if it is gone; returns the variants that this changes."""
        failed: dict[str, str] = {}
        loading: set[str] = set()
        for said in instances:
            if said.state is InstanceState.FAILED:
                failed[said.variant] = said.reason
            elif said.state is InstanceState.LOADING:
                loading.add(said.variant)
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
