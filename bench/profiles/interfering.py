"""Interference of slots: the time of a batch beside another busy slot of its worker, over its time alone.

As in a worker, a slot is a thread of the same process, with one core. A batch is timed alone and beside the other slot
in turns, so that a change of the machine's speed concerns both. The simulator assumes it as `workers.interference`.

Batches are grouped by their time alone. The other slot adds some microseconds, in which it holds the interpreter, to a
batch of any length: a large share of a short batch, though little beside the overhead of a batch in a worker.
"""

import itertools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from statistics import median
from typing import Final, NamedTuple

from bench.core.figures import Figure, percentile, plain
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.defaults import BATCH_LIMIT
from zoo.samples import DATA, labelled

Computation = Callable[[], object]
"""Computes one batch."""

_MODELS: Final = (
    ("mnist_resnet.onnx", "mnist"),
    ("mnist_cnn_s.onnx", "mnist"),
    ("digits_cnn.onnx", "digits"),
    ("sent_textcnn.onnx", "sentiment"),
)
_BATCHES: Final = (1, 16, 64)
_SHORT_S: Final = 0.5e-3
_TURNS: Final = 6
_TURN_S: Final = 0.1
_END_S: Final = 10.0


class Times(NamedTuple):
    """Median times of a batch in seconds."""

    alone_s: float
    beside_s: float

    @property
    def longer_percent(self) -> float:
        """Percentage by which it takes longer beside the other slot."""
        return (self.beside_s / self.alone_s - 1.0) * 100


def measure() -> list[Figure]:
    """Measure each batch beside each; takes four minutes on a quiet machine."""
    with ExitStack() as stack:
        computations = [_load(stack, file, task, batch) for (file, task), batch in itertools.product(_MODELS, _BATCHES)]
        times = [time_beside(one, other) for one, other in itertools.product(computations, repeat=2)]
    return [
        *_figures("a short batch", [pair for pair in times if pair.alone_s < _SHORT_S]),
        *_figures("a batch", [pair for pair in times if pair.alone_s >= _SHORT_S]),
    ]


def _figures(subject: str, times: Sequence[Times]) -> list[Figure]:
    name = f"{subject} beside one busy slot takes longer"
    percents = [pair.longer_percent for pair in times]
    return [
        plain(f"{name}: median", "none", median(percents), "%"),
        plain(f"{name}: p10", "none", percentile(percents, 0.1), "%"),
        plain(f"{name}: p90", "none", percentile(percents, 0.9), "%"),
        plain(f"{name}: median time", "none", median(pair.beside_s - pair.alone_s for pair in times) * 1e3, "ms"),
    ]


def time_beside(one: Computation, other: Computation, turns: int = _TURNS, turn_s: float = _TURN_S) -> Times:
    """Time `one` alone and while another thread repeats `other`."""
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(turns):
        for times, disturbance in ((alone, nullcontext()), (beside, _repeated(other))):
            with disturbance:
                times += _times(one, turn_s)
    return Times(median(alone), median(beside))


def _load(stack: ExitStack, file: str, task: str, batch: int) -> Computation:
    inputs = {name: array[:batch] for name, array in labelled(task)[0].items()}
    options = LoadOptions(precision="fp32", threads=1, max_batch=BATCH_LIMIT)
    session = find_runtime("onnx").load(DATA / file, "cpu", options)
    stack.callback(session.close)
    session.infer(inputs)
    return lambda: session.infer(inputs)


def _times(compute: Computation, seconds: float) -> list[float]:
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while (began_s := time.perf_counter()) < end_s:
        compute()
        times.append(time.perf_counter() - began_s)
    return times


@contextmanager
def _repeated(compute: Computation) -> Generator[None]:
    """Repeat a computation in another thread, from its first end on."""
    running, ended = threading.Event(), threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            compute()
            running.set()

    thread = threading.Thread(target=repeat, name="other slot", daemon=True)
    thread.start()
    try:
        if not running.wait(_END_S):
            raise TimeoutError(f"the other slot computed no batch in {_END_S:g} s")
        yield
    finally:
        ended.set()
        thread.join(_END_S)
