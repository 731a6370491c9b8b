"""Predictions of profiles, against measurements in service.

A batch: queries of `n` inputs, one after the other, to one variant at a time; the worker's compute time over the
profile's prediction. The sizes include ones that the profile interpolates. Lengths: the same with shorter and longer
inputs, for variants that take any length. For batches of less than a millisecond the figure is the difference, not the
ratio, because a worker's overhead per batch is some tenth of a millisecond.

Sharing: one to four variants are queried at once by one client each, in a closed loop. The figures are the time from
the selector's choice to the client's answer over the selector's prediction, and the deviation of the batches from their
own median, which no prediction can know.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

import aiohttp
from numpy.typing import NDArray

from bench.core.figures import Figure, percentile, plain, within
from bench.core.system import SystemUnderTest
from bench.load.http_message import infer_request
from registry.pipeline.measurement import at_length, variable_axes
from runtimes.padding import row_size
from schemas import headers as h
from schemas.latency import LatencyModel, LengthModel
from schemas.oip import encode_request
from schemas.rows.catalog import Architecture, Profile, Variant, VariantState
from store.pool import open_pool
from store.registry import list_architectures, list_profiles, list_variants
from zoo.samples import labelled

TASKS: Final = ("mnist", "sentiment")
_BATCHES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_LENGTHS: Final = (0.25, 0.375, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0)
"""Factors of the samples' length; every other one was not measured by the profile."""
_BATCHES_OF_LENGTHS: Final = (1, 4, 16)
_QUERIES: Final = 9
_SHARING: Final = (1, 2, 3, 4)
_SHARED_QUERIES: Final = 30
_FIRST_QUERIES: Final = 30
"""Queries before the counted ones, while the predictions adapt to the shared machine."""
_LATENCY_MS: Final = 20_000.0
_LOAD_S: Final = 60.0
_MOST_MEDIAN, _MOST_P95 = 10.0, 30.0

_RETRY_S: Final = 0.5
_LEAST_S: Final = 0.001

Inputs: TypeAlias = Mapping[str, NDArray[Any]]
_Pair: TypeAlias = tuple[float, float]
"""Measured and predicted seconds."""


class _Answer(NamedTuple):
    compute_s: float
    """Seconds of the batch."""
    after_s: float
    """Seconds from the selector's choice until the client had the answer."""
    predicted_s: float
    """The selector's prediction of `after_s`."""


class _Subject:
    """Variant under test, with its profile and inputs."""

    def __init__(self, variant: Variant, architecture: Architecture, profile: Profile, inputs: Inputs) -> None:
        self.name = variant.name
        self.task = variant.task
        self.model = LatencyModel(profile.latency, variant.max_batch)
        self.lengths = LengthModel(profile.lengths, self.model)
        self.longest = max((point.length for point in profile.lengths), default=0)
        self.batches = [batch for batch in _BATCHES if batch <= variant.max_batch]
        self.middle = self.batches[len(self.batches) // 2]
        self.middle_s = self.model.batch_s(self.middle)
        self._inputs = inputs
        self._variable = {spec.name: variable_axes(spec) for spec in architecture.inputs}

    def rows(self, count: int, length: float = 1.0) -> Inputs:
        """Return the first inputs of the task, with `length` times their length."""
        return at_length({name: array[:count] for name, array in self._inputs.items()}, length, self._variable)


async def measure(system: SystemUnderTest, broker: str) -> list[Figure]:
    """Measure all figures; the system must have the tasks registered, and one worker."""
    subjects = await _subjects(system)
    heavy = [subject for subject in subjects if subject.middle_s >= _LEAST_S]
    timeout = aiohttp.ClientTimeout(total=_LATENCY_MS / 1e3)
    async with aiohttp.ClientSession(system.gateway, timeout=timeout) as http:
        alone = [pair for subject in subjects for pair in await _batches(http, subject)]
        figures = _batch_figures("a batch", broker, alone)
        long = [pair for subject in subjects for pair in await _lengths(http, subject)]
        figures += _batch_figures("a batch of shorter or longer inputs", broker, long)
        for count in _SHARING:
            shared = await _shared(http, heavy[:: max(len(heavy) // count, 1)][:count])
            figures += _shared_figures(count, broker, shared)
    return figures


async def _subjects(system: SystemUnderTest) -> list[_Subject]:
    data = {task: labelled(task)[0] for task in TASKS}
    async with open_pool(system.postgres, max_size=1) as pool:
        profiles = {profile.variant: profile for profile in await list_profiles(pool)}
        architectures = {architecture.name: architecture for architecture in await list_architectures(pool)}
        variants = await list_variants(pool)
    ready = [variant for variant in variants if variant.state is VariantState.READY and variant.task in data]
    return [
        _Subject(variant, architectures[variant.architecture], profiles[variant.name], data[variant.task])
        for variant in ready
    ]


async def _load(http: aiohttp.ClientSession, subject: _Subject) -> None:
    """Send queries until the variant is loaded."""
    async with asyncio.timeout(_LOAD_S):
        while True:
            if await _ask(http, subject, subject.rows(1)) is not None:
                return
            await asyncio.sleep(_RETRY_S)


async def _ask(http: aiohttp.ClientSession, subject: _Subject, rows: Inputs) -> _Answer | None:
    """Send one batch. Returns None if it was refused."""
    request = infer_request(subject.name, encode_request(rows), **{h.LATENCY_MS: str(_LATENCY_MS)})
    began = time.monotonic()
    async with http.post(request.path, data=request.body, headers=request.headers) as response:
        await response.read()
        elapsed_s, said = time.monotonic() - began, response.headers
        if response.status != HTTPStatus.OK:
            return None
        after_s = elapsed_s - int(said[h.TASK_QUEUE_NS]) / 1e9
        return _Answer(int(said[h.COMPUTE_NS]) / 1e9, after_s, int(said[h.PREDICTED_NS]) / 1e9)


async def _batches(http: aiohttp.ClientSession, subject: _Subject) -> list[_Pair]:
    await _load(http, subject)
    return [
        (await _compute_s(http, subject, subject.rows(batch)), subject.model.batch_s(batch))
        for batch in subject.batches
    ]


async def _lengths(http: aiohttp.ClientSession, subject: _Subject) -> list[_Pair]:
    if not subject.lengths.varies:
        return []
    await _load(http, subject)
    pairs: list[_Pair] = []
    for batch in filter(subject.batches.__contains__, _BATCHES_OF_LENGTHS):
        for factor in _LENGTHS:
            rows = subject.rows(batch, factor)
            if (length := row_size(rows)) <= subject.longest:
                predicted_s = subject.model.batch_s(batch) + batch * subject.lengths.extra_s(length)
                pairs.append((await _compute_s(http, subject, rows), predicted_s))
    return pairs


async def _compute_s(http: aiohttp.ClientSession, subject: _Subject, rows: Inputs) -> float:
    """Return the median of the worker's compute times of such a batch."""
    answers = [await _ask(http, subject, rows) for _ in range(_QUERIES)]
    return median(answer.compute_s for answer in answers if answer is not None)


async def _shared(http: aiohttp.ClientSession, subjects: Sequence[_Subject]) -> list[list[_Answer]]:
    for subject in subjects:
        await _load(http, subject)
    found: list[list[_Answer]] = []

    async def ask(subject: _Subject) -> None:
        rows = subject.rows(subject.middle)
        answers = [await _ask(http, subject, rows) for _ in range(_FIRST_QUERIES + _SHARED_QUERIES)][_FIRST_QUERIES:]
        found.append([answer for answer in answers if answer is not None])

    async with asyncio.TaskGroup() as asking:
        for subject in subjects:
            asking.create_task(ask(subject), name=f"ask {subject.name}")
    return found


def _shared_figures(count: int, broker: str, found: Sequence[Sequence[_Answer]]) -> list[Figure]:
    """Return figures of answers against predictions, and of batches against their median."""
    pairs = [(answer.after_s, answer.predicted_s) for answers in found for answer in answers]
    figures = _figures(f"an answer against its prediction, {count} variants at once", broker, pairs)
    spread: list[float] = []
    for answers in found:
        middle_s = median(answer.compute_s for answer in answers)
        spread += [abs(answer.compute_s / middle_s - 1) for answer in answers]
    name = f"a batch against the median of its variant, {count} variants at once"
    return [
        *figures,
        plain(f"{name}: median", broker, median(spread) * 100, "%"),
        plain(f"{name}: p95", broker, percentile(spread, 0.95) * 100, "%"),
    ]


def _batch_figures(name: str, broker: str, pairs: Sequence[_Pair]) -> list[Figure]:
    """Return figures of errors: in percent for batches of a millisecond or more, in time for shorter ones."""
    brief = [took_s - predicted_s for took_s, predicted_s in pairs if predicted_s < _LEAST_S]
    figures = _figures(f"{name} against its profile", broker, [pair for pair in pairs if pair[1] >= _LEAST_S])
    if brief:
        name = f"{name} of less than {_LEAST_S * 1e3:g} ms exceeds its profile"
        figures.append(plain(f"{name}: median", broker, median(brief) * 1e3, "ms"))
    return figures


def _figures(name: str, broker: str, pairs: Sequence[_Pair]) -> list[Figure]:
    errors = [abs(took_s / predicted_s - 1) for took_s, predicted_s in pairs]
    middle, high = median(errors) * 100, percentile(errors, 0.95) * 100
    return [
        within(f"{name}: median error", broker, middle, "%", _MOST_MEDIAN),
        within(f"{name}: p95 of the error", broker, high, "%", _MOST_P95),
    ]
