"""Queries of `infaas demo`: labelled inputs, sent with different needs, and a check of the promised accuracy.

The needs are derived from the profiles of this machine, so that they can be met on any machine. Each case sends
held-out inputs of a task one by one, `IN_FLIGHT` at a time. An exact binomial test compares the measured accuracy with
the accuracy promised in the answers. A case whose promises hold is reported as broken at most once in ten thousand
runs.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from math import comb
from statistics import median
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from infaas.client.client import Answer, InfaasClient, QueryOptions
from infaas.up.ready_tasks import watch_tasks
from infaas.up.system import RunningSystem
from process.backoff import Backoff
from process.pauses import retry_until_reachable
from schemas.errors import OperatorError, QueryError
from schemas.latency import LatencyModel
from schemas.query import Mode
from schemas.rows.catalog import Profile, VariantState
from schemas.status import SERVING
from schemas.tensors import Array
from store.placement import list_instances
from store.pool import Pool, open_pool
from store.registry import list_profiles, list_variants
from zoo.samples import ALL_TASKS, ENCODED_TASKS, example, labelled

IN_FLIGHT: Final = 4
TRIES: Final = 5
CHANCE: Final = 1e-4
PLACED_S: Final = 60.0
_SEED: Final = 7
_BACKOFF: Final = Backoff(first_s=0.2, longest_s=1.0)
_PLACED_INTERVAL_S: Final = 0.1


class DemoCase(msgspec.Struct, frozen=True):
    """One row of the table: a task and the needs of its queries."""

    task: str
    needs: str
    """The needs as text for people."""
    options: QueryOptions
    via: str
    """Transport of the queries: `http` or `kafka`."""


class CaseOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Results of the queries of one case."""

    case: DemoCase
    asked: int
    answered: int
    correct: int
    variants: dict[str, int]
    """Answers by variant, the most frequent first."""
    promised: float
    """Mean of the accuracy promised in the answers, 0..1."""
    predicted_ms: float
    """Median of the predicted latency, from the choice of a variant to the result."""
    measured_ms: float
    """Median of the measured latency, from the client's call to its answer."""
    cost: float
    """Mean USD per 1000 queries."""
    failures: dict[str, int]
    """Number of queries without an answer, by error."""

    @property
    def accuracy(self) -> float:
        """Share of the answers that are correct, 0..1."""
        return self.correct / max(self.answered, 1)

    @property
    def kept(self) -> bool:
        """True if all queries were answered and the measured accuracy is compatible with the promised accuracy."""
        return (
            self.answered == self.asked
            and chance_of(self.answered - self.correct, self.answered, self.promised) > CHANCE
        )


def chance_of(errors: int, count: int, accuracy: float) -> float:
    """Return the probability of `errors` or more wrong answers among `count` answers of the given accuracy."""
    wrong = 1.0 - accuracy
    if wrong <= 0.0:
        return 0.0 if errors else 1.0
    return 1.0 - sum(comb(count, k) * wrong**k * accuracy ** (count - k) for k in range(errors))


async def show_first_answers(system: RunningSystem, show: Callable[[str], None]) -> None:
    """Query each task once as soon as one of its variants is ready, and show the answer; return after the last one."""
    async with InfaasClient(gateway=system.gateway) as client, asyncio.TaskGroup() as tasks:

        async def ask(task: str) -> None:
            inputs = example(task)
            try:  # the gateway learns of a new task a moment later
                answer = await retry_until_reachable(
                    lambda: client.infer(task, inputs), QueryError, _BACKOFF, patience_s=PLACED_S
                )
            except QueryError as error:
                show(f"{task} does not answer yet: {error}")
            else:
                show(f"{task} answers: by {answer.variant} in {answer.total_ms:.1f} ms")

        def ready(task: str) -> None:
            tasks.create_task(ask(task), name=f"ask {task}")

        await watch_tasks(system.postgres, ALL_TASKS, ready)


async def wait_until_placed(pool: Pool, tasks: Sequence[str] = ALL_TASKS) -> None:
    """Wait until variants of all tasks are placed and their instances serve.

    Raises:
        OperatorError: the variants do not serve within a minute.
    """
    task_of = {variant.name: variant.task for variant in await list_variants(pool, state=VariantState.READY)}
    try:
        async with asyncio.timeout(PLACED_S):
            while True:
                instances = await list_instances(pool)
                placed = {task_of.get(instance.variant) for instance in instances}
                if placed >= set(tasks) and all(instance.state in SERVING for instance in instances):
                    return
                await asyncio.sleep(_PLACED_INTERVAL_S)  # polled: these changes are too frequent to be notified
    except TimeoutError:
        raise OperatorError(f"not all variants were serving within {PLACED_S:g} s; see the workers' logs") from None


async def plan_cases(pool: Pool, tasks: Sequence[str] = ALL_TASKS) -> list[DemoCase]:
    """Derive the cases of each task from the profiles of this machine."""
    return [
        case for task in tasks for case in _cases(task, await list_profiles(pool, task=task, state=VariantState.READY))
    ]


def _cases(task: str, profiles: Sequence[Profile]) -> list[DemoCase]:
    ranked = sorted(profile.accuracy for profile in profiles)
    good, best = ranked[len(ranked) // 2], ranked[-1]
    alone_s = {profile.variant: LatencyModel(profile.latency, 1).batch_s(1) for profile in profiles}
    slowest_ms = 1000 * max(alone_s.values())
    easy_ms = round(max(1000.0, 20 * slowest_ms), -2)
    soon = f"within {easy_ms:g} ms"
    fastest = min(alone_s, key=alone_s.__getitem__)
    plain = [
        DemoCase(task, "none", QueryOptions(), "http"),
        DemoCase(task, soon, QueryOptions(latency_ms=easy_ms), "kafka"),
    ]
    if task in ENCODED_TASKS:  # these tasks only show that text and files are accepted; their needs would add nothing
        return plain[:1]
    return [
        *plain,
        DemoCase(task, f"accuracy {good:.3f}, {soon}", QueryOptions(min_accuracy=good, latency_ms=easy_ms), "http"),
        DemoCase(task, f"accuracy {best:.3f}", QueryOptions(min_accuracy=best), "kafka"),
        DemoCase(task, "the fastest variant", QueryOptions(target=fastest), "http"),
        DemoCase(task, f"offline, accuracy {good:.3f}", QueryOptions(mode=Mode.OFFLINE, min_accuracy=good), "kafka"),
    ]


class Demo:
    """Clients over HTTP and Kafka that send the cases to a running system; an async context manager."""

    def __init__(self, system: RunningSystem, count: int) -> None:
        self._clients = {"http": InfaasClient(gateway=system.gateway), "kafka": InfaasClient(kafka=system.kafka)}
        self._count = count
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Demo":
        for client in self._clients.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self, case: DemoCase) -> CaseOutcome:
        """Send the inputs of a case, `IN_FLIGHT` at a time, and return the results."""
        inputs, labels = _sample(case.task, self._count)
        slots = asyncio.Semaphore(IN_FLIGHT)
        client = self._clients[case.via]

        async def ask(index: int) -> Answer | QueryError:
            async with slots:
                return await _ask(client, case, {name: values[index : index + 1] for name, values in inputs.items()})

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(ask(index)) for index in range(len(labels))]
        return _outcome(case, [task.result() for task in asked], labels)


async def _ask(client: InfaasClient, case: DemoCase, inputs: Mapping[str, Array]) -> Answer | QueryError:
    """Send one query, and up to `TRIES` times while the error is retryable."""
    try:
        return await retry_until_reachable(
            lambda: client.infer(case.task, inputs, **case.options),
            QueryError,
            _BACKOFF,
            may_pass=lambda error: error.retryable,
            attempts=TRIES,
        )
    except QueryError as error:
        return error


def _sample(task: str, count: int) -> tuple[dict[str, Array], NDArray[np.int64]]:
    inputs, labels = labelled(task)
    chosen = np.random.default_rng(_SEED).permutation(len(labels))[:count]
    return {name: values[chosen] for name, values in inputs.items()}, labels[chosen]


def _outcome(case: DemoCase, results: Sequence[Answer | QueryError], labels: NDArray[np.int64]) -> CaseOutcome:
    answered = [(r, int(label)) for r, label in zip(results, labels, strict=True) if isinstance(r, Answer)]
    answers = [answer for answer, _ in answered]
    return CaseOutcome(
        case=case,
        asked=len(results),
        answered=len(answers),
        correct=sum(_class_of(answer) == label for answer, label in answered),
        variants=dict(Counter(answer.variant for answer in answers).most_common()),
        promised=_mean([answer.accuracy or 0.0 for answer in answers]),
        predicted_ms=median([answer.predicted_ms for answer in answers] or [0.0]),
        measured_ms=median([answer.total_ms for answer in answers] or [0.0]),
        cost=_mean([answer.cost or 0.0 for answer in answers]),
        failures=dict(Counter(str(r) for r in results if isinstance(r, QueryError))),
    )


def _class_of(answer: Answer) -> int:
    scores = next(iter(answer.outputs.values()))
    return int(np.argmax(scores[0]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


async def run_demo(system: RunningSystem, count: int) -> list[CaseOutcome]:
    """Run all cases with `count` inputs each. The zoo must be registered."""
    async with open_pool(system.postgres, max_size=2) as pool:
        await wait_until_placed(pool)
        cases = await plan_cases(pool)
    async with Demo(system, count) as demo:
        return [await demo.run(case) for case in cases]
