"""What profiles predict, against what is measured in service.

A batch: one query after the other of so many inputs, to one variant at a time; what the worker says that the batch
took, over what the profile says. Neighbours of the measured sizes, too, where it interpolates. Lengths: the same with
shorter and longer inputs, of variants that take any length, over the profile's time times its factor for the length.
Sharing: one to four variants are asked by a client each, at once, each query as soon as the one before is answered; how
long an answer took, over what the selector had predicted when it chose.
"""

import asyncio
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from numpy.typing import NDArray

from bench.core.figures import Figure, percentile
from bench.core.system import SystemUnderTest
from infaas.client import InfaasClient
from registry.pipeline.measurement import at_length
from registry.pipeline.mixing import variable_axes
from runtimes.padding import row_size
from schemas.errors import QueryError
from schemas.latency import LatencyModel
from schemas.length import LengthModel
from schemas.rows.catalog import Architecture, Profile, Variant, VariantState
from store.pool import open_pool
from store.registry import list_architectures, list_profiles, list_variants
from zoo.samples import labelled

TASKS: Final = ("mnist", "sentiment")
_BATCHES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_LENGTHS: Final = (0.25, 0.375, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0)
"""Of the samples' length; every other one was not measured."""
_BATCHES_OF_LENGTHS: Final = (1, 4, 16)
_QUERIES: Final = 9
_SHARING: Final = (1, 2, 3, 4)
_SHARED_QUERIES: Final = 30
_LATENCY_MS: Final = 20_000.0
_LOAD_S: Final = 60.0
_MOST_MEDIAN, _MOST_P95 = 10.0, 30.0

Inputs = Mapping[str, NDArray[Any]]


class _Subject:
    """A variant that is asked, and what is known of it."""

    def __init__(self, variant: Variant, architecture: Architecture, profile: Profile, inputs: Inputs) -> None:
        self.name = variant.name
        self.task = variant.task
        self.model = LatencyModel(profile.latency, variant.max_batch)
        self.lengths = LengthModel(profile.lengths)
        self.longest = max((point.length for point in profile.lengths), default=0)
        self.batches = [batch for batch in _BATCHES if batch <= variant.max_batch]
        self._inputs = inputs
        self._variable = {spec.name: variable_axes(spec) for spec in architecture.inputs}

    def rows(self, count: int, length: float = 1.0) -> Inputs:
        """The first inputs of the task, `length` times as long as they are."""
        return at_length({name: array[:count] for name, array in self._inputs.items()}, length, self._variable)


async def measure(system: SystemUnderTest, broker: str) -> list[Figure]:
    """Measure both; the system must have the tasks registered, and one worker."""
    subjects = await _subjects(system)
    async with InfaasClient(kafka=system.kafka) as client:
        alone = [error for subject in subjects for error in await _batch_errors(client, subject)]
        figures = _figures("a batch against its profile", broker, alone)
        long = [error for subject in subjects for error in await _length_errors(client, subject)]
        figures += _figures("a batch of shorter or longer inputs against its profile", broker, long)
        for count in _SHARING:
            shared = await _sharing_errors(client, subjects[:: max(len(subjects) // count, 1)][:count])
            figures += _figures(f"an answer against its prediction, {count} variants at once", broker, shared)
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


async def _load(client: InfaasClient, subject: _Subject) -> None:
    """Ask until it is loaded."""
    async with asyncio.timeout(_LOAD_S):
        while True:
            try:
                await _ask(client, subject, subject.rows(1))
            except QueryError:
                await asyncio.sleep(0.5)
            else:
                return


async def _ask(client: InfaasClient, subject: _Subject, rows: Inputs) -> tuple[float, float, float]:
    """Seconds that the batch took, that the answer took in all, and that it had been predicted to take."""
    answer = await client.infer(subject.task, rows, target=subject.name, latency_ms=_LATENCY_MS)
    return answer.compute_ms / 1e3, (answer.queue_ms + answer.compute_ms) / 1e3, answer.predicted_ms / 1e3


async def _batch_errors(client: InfaasClient, subject: _Subject) -> list[float]:
    await _load(client, subject)
    errors: list[float] = []
    for batch in subject.batches:
        took_s = await _compute_s(client, subject, subject.rows(batch))
        errors.append(abs(took_s / subject.model.batch_s(batch) - 1))
    return errors


async def _length_errors(client: InfaasClient, subject: _Subject) -> list[float]:
    if not subject.lengths.varies:
        return []
    await _load(client, subject)
    errors: list[float] = []
    for batch in filter(subject.batches.__contains__, _BATCHES_OF_LENGTHS):
        for factor in _LENGTHS:
            rows = subject.rows(batch, factor)
            if (length := row_size(rows)) <= subject.longest:
                predicted_s = subject.model.batch_s(batch) * subject.lengths.factor(length)
                errors.append(abs(await _compute_s(client, subject, rows) / predicted_s - 1))
    return errors


async def _compute_s(client: InfaasClient, subject: _Subject, rows: Inputs) -> float:
    """The median of what the worker says that such a batch takes."""
    return median([(await _ask(client, subject, rows))[0] for _ in range(_QUERIES)])


async def _sharing_errors(client: InfaasClient, subjects: Sequence[_Subject]) -> list[float]:
    for subject in subjects:
        await _load(client, subject)
    errors: list[float] = []

    async def ask(subject: _Subject) -> None:
        batch = subject.batches[len(subject.batches) // 2]
        for _ in range(_SHARED_QUERIES):
            _, total_s, predicted_s = await _ask(client, subject, subject.rows(batch))
            errors.append(abs(total_s / predicted_s - 1))

    async with asyncio.TaskGroup() as asking:
        for subject in subjects:
            asking.create_task(ask(subject), name=f"ask {subject.name}")
    return errors


def _figures(name: str, broker: str, errors: Sequence[float]) -> list[Figure]:
    middle, high = median(errors) * 100, percentile(errors, 0.95) * 100
    return [
        Figure(
            name=f"{name}: median error", broker=broker, value=middle, unit="%",
            target=f"<= {_MOST_MEDIAN:g} %", passed=middle <= _MOST_MEDIAN,
        ),
        Figure(
            name=f"{name}: p95 of the error", broker=broker, value=high, unit="%",
            target=f"<= {_MOST_P95:g} %", passed=high <= _MOST_P95,
        ),
    ]  # fmt: skip
