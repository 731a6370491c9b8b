"""Counts what is answered, by needs class, for the autoscaler: the counterpart of what selectors count as asked."""

from schemas.load_classes import ByClass, ClassAnswers, ClassKey


class _Count:
    """Of one class since the last status."""

    __slots__ = ("failed", "late", "queries")

    def __init__(self) -> None:
        self.queries = self.late = self.failed = 0


class AnswerMeter:
    """Of one worker, all its instances."""

    def __init__(self) -> None:
        self._classes = ByClass(_Count)

    def computed(self, task: str, key: ClassKey, *, late: bool) -> None:
        """A query was answered with a result."""
        count = self._classes.of(task, key)
        count.queries += 1
        count.late += late

    def failed(self, task: str, key: ClassKey) -> None:
        """A query was answered with an error."""
        count = self._classes.of(task, key)
        count.queries += 1
        count.failed += 1

    def take(self) -> tuple[ClassAnswers, ...]:
        """What was answered since this was last called."""
        return tuple(ClassAnswers(found, c.queries, c.late, c.failed) for found, c in self._classes.take())
