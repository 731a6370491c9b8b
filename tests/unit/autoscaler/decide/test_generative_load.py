"""Tests of the load of generative tasks, which is counted by the tokens of answers."""

import math

import msgspec
import pytest
from msgspec.structs import replace

from autoscaler.decide.decide import decide
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot, InstanceLoad
from autoscaler.decide.throughput import AnswerTokens, answer_throughput
from runtimes.catalog import is_concurrent
from schemas.answer_lengths import LengthMeter
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from schemas.rows.catalog import Profile
from tests.example_rows import a_worker, an_instance
from tests.unit.autoscaler.decide.snapshots import LIMITS, full, instance_load, load, profile, ranking, registered

TIMES = GenerationProfile(
    context_tokens=1000, sequences=4, prefill=(PrefillTime(20, 0.02, 0.02), PrefillTime(40, 0.04, 0.04)),
    step=(StepTime(1, 0.01, 0.01), StepTime(4, 0.02, 0.02)), prompt_tokens=20, answer_tokens=50, bytes_per_token=4.0,
)  # fmt: skip
WORKERS = tuple(a_worker(f"cpu-{number}") for number in range(20))
NAMES = ("short-a", "long-a")


def writer(name: str) -> Profile:
    return msgspec.structs.replace(profile(name, batch_s=0.5), generation=TIMES)


def written(name: str, tokens: int, worker: str = "cpu-0") -> InstanceLoad:
    """Return the load of an instance whose last answers had this number of tokens."""
    meter = LengthMeter()
    for _ in range(200):
        meter.add(tokens, cut=False)
    return instance_load(name, worker, answer_lengths=meter.counts)


def instances(*classes: ClassLoad, loads: tuple[InstanceLoad, ...] = ()) -> dict[str, int]:
    """Return the planned number of instances by variant; each has one at present."""
    rows = tuple(an_instance(full(name), f"cpu-{n}") for n, name in enumerate(NAMES))
    snapshot = ClusterSnapshot(workers=WORKERS, instances=rows, classes=classes, instance_loads=loads)
    profiles = [writer(name) for name in NAMES]
    plan = decide(registered(profiles), ranking(profiles, snapshot), snapshot, LIMITS)
    return {name: 1 + sum(change.variant == name for change in plan.changes) for name in map(full, NAMES)}


@pytest.mark.parametrize("ms", [None, 8000.0])
def test_long_answers_get_more_instances_than_short_ones(ms: float | None) -> None:
    classes = [load(task, 6.0, ms=ms) for task in ("short", "long")]
    loads = (written("short-a", 5), written("long-a", 200, "cpu-1"))
    found = instances(*classes, loads=loads)
    by_profile = instances(*classes)
    assert by_profile[full("short-a")] == by_profile[full("long-a")]
    assert found[full("short-a")] <= by_profile[full("short-a")] < found[full("long-a")]
    assert found[full("long-a")] >= 2 * found[full("short-a")]


def test_answers_without_latency_may_take_as_long_as_they_take() -> None:
    """A typical answer takes more than the latency of queries without one, within which its first token is due."""
    snapshot = ClusterSnapshot(workers=WORKERS, classes=(load("long", 6.0),), instance_loads=(written("long-a", 900),))
    assert build_problem(ranking([writer("long-a")], snapshot), snapshot, LIMITS).requirements


@pytest.mark.parametrize(("budget_s", "sequences"), [(math.inf, 4), (0.9, 3), (0.53, 1), (0.5, 0)])
def test_answer_throughput_within_budget(budget_s: float, sequences: int) -> None:
    model = GenerationModel(TIMES)
    found = answer_throughput(model, 50, budget_s, 1.0)
    assert found.batch == sequences
    assert found.rate == pytest.approx(sequences / model.together_s(sequences, 50) if sequences else 0.0)


def test_answer_throughput_of_cascade_promises_escalation() -> None:
    model = GenerationModel(replace(TIMES, draft=TIMES, escalated=0.25))
    found = answer_throughput(model, 50, math.inf, 1.0)
    assert found.rate == pytest.approx(4 / (1.25 * GenerationModel(TIMES).together_s(4, 50)))
    promised_s = 2 * GenerationModel(TIMES).together_s(1, 50)
    assert answer_throughput(model, 50, 0.99 * promised_s, 1.0).rate == 0
    assert answer_throughput(model, 50, 1.01 * promised_s, 1.0).batch == 1


def test_answer_tokens_are_those_of_profile_without_answers() -> None:
    snapshot = ClusterSnapshot(workers=WORKERS)
    (candidate,) = ranking([writer("long-a")], snapshot).candidates.values()
    assert AnswerTokens([candidate], snapshot).mean(candidate, GenerationModel(TIMES)) == 50


def test_cascade_of_generative_variants_computes_on_its_own_cores() -> None:
    snapshot = ClusterSnapshot(workers=WORKERS)
    ranked = ranking([writer("long-a"), profile("tensors-a")], snapshot).candidates
    assert {name: is_concurrent(one.variant.runtime) for name, one in ranked.items()} == dict.fromkeys(ranked, True)
    assert not ranked[full("long-a")].concurrent
    assert ranked[full("tensors-a")].concurrent
