"""Lengths of generative answers that workers have published, by task and variant. Pure.

A variant's distribution is that of its own answers on all workers. Until there are enough, answers of the task's other
variants stand in, and the profile's typical one (`schemas.answer_lengths`). It is computed at its first use after news,
so a query costs a look at a number.

The counts of an instance that ends are removed, but those of the last one of a variant stay until another instance has
answered: an unloaded variant keeps its lengths.
"""

from collections.abc import Collection

from schemas.answer_lengths import AnswerLengths, LengthCount, LengthCounts
from schemas.generation_model import GenerationModel
from schemas.status import InstanceStatus
from selector.policy.variants import PricedVariant


class _TaskLengths:
    """Counts of one task."""

    __slots__ = ("changes", "counts", "variants")

    def __init__(self) -> None:
        self.counts = LengthCounts()
        self.changes = 0
        self.variants: dict[str, _VariantLengths] = {}


class _VariantLengths:
    """Counts of one variant, and of each worker among them."""

    __slots__ = ("computed", "counts", "ended", "workers")

    def __init__(self) -> None:
        self.counts = LengthCounts()
        self.workers: dict[str, tuple[LengthCount, ...]] = {}
        self.ended: str | None = None
        """Worker whose instance was the last one, and has ended."""
        self.computed: tuple[int, GenerationModel, AnswerLengths] | None = None
        """Changes of the task and model for which the lengths were computed, and the lengths."""


class LearnedLengths:
    """Lengths of answers by task and variant."""

    def __init__(self) -> None:
        self._tasks: dict[str, _TaskLengths] = {}

    def of(self, variant: PricedVariant, model: GenerationModel) -> AnswerLengths:
        """Return the lengths to expect of a variant's answers; those of its profile as long as nothing was learned."""
        task = self._tasks.get(variant.task)
        if task is None:
            return model.lengths
        own = task.variants.setdefault(variant.name, _VariantLengths())
        if own.computed is None or own.computed[0] != task.changes or own.computed[1] is not model:
            own.computed = task.changes, model, own.counts.lengths(model.lengths.median, task.counts)
        return own.computed[2]

    def take(self, variant: PricedVariant, worker: str, reported: InstanceStatus) -> None:
        """Update the counts of an instance from its status; one that has not answered yet changes nothing."""
        counts = reported.answer_lengths
        task = self._tasks.setdefault(variant.task, _TaskLengths())
        own = task.variants.setdefault(variant.name, _VariantLengths())
        if own.workers.get(worker) == counts:
            return
        for gone in own.workers.keys() & {worker, own.ended}:
            _add(task, own, own.workers.pop(gone), -1)
        own.workers[worker], own.ended = counts, None
        _add(task, own, counts, 1)

    def end(self, variant: PricedVariant, worker: str) -> None:
        """Remove the counts of an instance that has ended, unless it was the last one of its variant."""
        task = self._tasks.get(variant.task)
        own = None if task is None else task.variants.get(variant.name)
        if task is None or own is None or worker not in own.workers:
            return
        if len(own.workers) == 1:
            own.ended = worker
        else:
            _add(task, own, own.workers.pop(worker), -1)

    def keep(self, tasks: Collection[str], variants: Collection[str]) -> None:
        """Forget all other tasks and variants."""
        self._tasks = {name: task for name, task in self._tasks.items() if name in tasks}
        for task in self._tasks.values():
            for name in task.variants.keys() - variants:
                own = task.variants.pop(name)
                for counts in own.workers.values():
                    _add(task, own, counts, -1)


def _add(task: _TaskLengths, own: _VariantLengths, counts: tuple[LengthCount, ...], sign: int) -> None:
    task.counts.add(counts, sign)
    own.counts.add(counts, sign)
    task.changes += 1
