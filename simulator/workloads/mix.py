"""Mix of kinds: which tasks, needs and batch sizes the queries of a stream have.

Task, needs and batch size are independent of each other. If the arrivals name clients, all queries of a client have one
task and one set of needs, which are drawn once: a program asks for the same thing again and again.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.random import Generator
from numpy.typing import NDArray

from schemas.names import is_name
from simulator.trace import QueryKind, Trace
from simulator.workloads.arrival_process import ArrivalSample
from simulator.workloads.batch_sizes import AnySizes

_DEFAULT_TASK: Final = "default"


class KindTemplate(QueryKind, frozen=True, kw_only=True):
    """Kind of queries with its share of a mix."""

    task: str = _DEFAULT_TASK
    """Task, unless the mix draws it from `Mix.tasks`."""
    weight: Annotated[float, Meta(gt=0, le=1e9)] = 1.0
    """Frequency relative to the other kinds of the mix."""

    def kind(self, task: str | None, batch: int | None) -> QueryKind:
        """Return the kind, with this task and this number of inputs unless they are None."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in QueryKind.__struct_fields__}
        fields.update(task=task or self.task, batch=batch or self.batch)
        return QueryKind(**fields)


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distribution of the kinds of a stream.

    Raises:
        ValueError: a task has no valid name.
    """

    kinds: Annotated[tuple[KindTemplate, ...], Meta(min_length=1)] = (KindTemplate(),)
    tasks: tuple[str, ...] = ()
    """Tasks by descending popularity; empty: each kind has its own task."""
    zipf: Annotated[float, Meta(ge=0, le=10)] = 1.0
    """Exponent of the popularity: the task at rank r has a share in proportion to `r ** -zipf`."""
    batches: AnySizes | None = None
    """Batch sizes; None: each kind has its own."""

    def __post_init__(self) -> None:
        """Check the names."""
        for task in self.tasks:
            if not is_name(task):
                raise ValueError(f"{task!r} is not a name of a task: use a-z, 0-9 and '-'")

    def trace(self, arrivals: ArrivalSample, random: Generator) -> Trace:
        """Draw the kind of each arrival."""
        tasks = self.tasks or (None,)
        templates = _draw([kind.weight for kind in self.kinds], arrivals, random)
        named = _draw([rank**-self.zipf for rank in range(1, len(tasks) + 1)], arrivals, random)
        batches = _batches(self.batches, arrivals, random)
        most = int(batches.max(initial=0)) + 1
        codes, kind = np.unique((templates * len(tasks) + named) * most + batches, return_inverse=True)
        kinds = [
            self.kinds[code // most // len(tasks)].kind(tasks[code // most % len(tasks)], code % most or None)
            for code in codes.tolist()
        ]
        return Trace(arrivals.time_s, kind.astype(np.int32), tuple(kinds))


def _draw(weights: Sequence[float], arrivals: ArrivalSample, random: Generator) -> NDArray[np.int64]:
    """Draw an index into `weights` for each arrival or, if they are known, for each client."""
    size = len(arrivals.time_s) if arrivals.client is None else int(arrivals.client.max(initial=-1)) + 1
    drawn = random.choice(len(weights), size, p=np.array(weights) / sum(weights))
    return drawn if arrivals.client is None else drawn[arrivals.client]


def _batches(sizes: AnySizes | None, arrivals: ArrivalSample, random: Generator) -> NDArray[np.int64]:
    """Return the batch size of each arrival; 0: that of its kind."""
    return np.zeros(len(arrivals.time_s), np.int64) if sizes is None else sizes.draw(arrivals, random)
