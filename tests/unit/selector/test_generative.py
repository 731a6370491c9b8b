"""Tests of the choice for a generative answer, and of the times that it predicts."""

from math import inf
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answer_lengths import LengthMeter
from schemas.errors import InvalidRequest, Overloaded, RefusalReason, Unsatisfiable
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from schemas.query import Query
from schemas.rows.catalog import Profile, Variant
from schemas.status import WorkerStatus
from selector.dispatch.explanation import explain
from selector.policy.cluster_state import ClusterState
from selector.policy.replicas import TaskShare
from selector.policy.selection import choose
from tests.unit.selector.story import (
    NO_UPGRADES,
    NOW,
    TASK,
    chosen,
    explained,
    instance,
    profile,
    query,
    refused,
    registered,
    state_of,
    status,
    variant,
)

SMALL, LARGE, BOTH = "small.llama-q4.cpu", "large.llama-q8.cpu", "small-or-large.q4-q8-t900.cpu"
TYPICAL = 336
"""Bytes of a request with a typical prompt."""


def generation(*, step_ms: float = 10.0, sequences: int = 4, prefill_ms: float = 100.0) -> GenerationProfile:
    """Return a profile whose steps take a fifth longer with each further answer."""
    return GenerationProfile(
        context_tokens=2048,
        sequences=sequences,
        prefill=(PrefillTime(64, prefill_ms / 1e3, prefill_ms / 500), PrefillTime(128, prefill_ms / 500, 0.5)),
        step=tuple(
            StepTime(n, step_ms / 1e3 * (0.8 + n / 5), step_ms / 500 * (0.8 + n / 5)) for n in (1, 2, sequences)
        ),
        prompt_tokens=64,
        answer_tokens=100,
        bytes_per_token=4.0,
    )


def generative(name: str, accuracy: float, **times: float) -> tuple[Variant, Profile]:
    made = profile(name, ms=1000.0, accuracy=accuracy, max_batch=1)
    return variant(name, max_batch=1), msgspec.structs.replace(made, generation=generation(**times))  # pyright: ignore[reportArgumentType]


def two() -> ClusterState:
    """Return a state of a small and a large variant, both loaded."""
    made = state_of(generative(SMALL, 0.5, step_ms=10.0), generative(LARGE, 0.8, step_ms=50.0, prefill_ms=500.0))
    made.apply_status(status(instance(SMALL, parallel=4), instance(LARGE, parallel=4)), NOW)
    return made


def asked(size: int = 256, *, batch: int = 1, **needs: float | int | bool | str) -> Query:
    made = query(batch=batch)
    fields: dict[str, Any] = {"needs": msgspec.structs.replace(made.needs, **needs), "size": size}
    if "latency_ms" in needs:
        fields["deadline_ms"] = NOW * 1e3 + float(needs["latency_ms"])
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    ("wanted", "variant"),
    [
        (asked(), SMALL),
        (asked(min_accuracy=0.7, ttft_ms=2000), LARGE),
        (asked(latency_ms=500, max_tokens=20), SMALL),
        (asked(size=256, ttft_ms=150), SMALL),
        (asked(tpot_ms=12.5), SMALL),
    ],
)
def test_choose_takes_cheapest_that_meets_needs(wanted: Query, variant: str) -> None:
    assert chosen(wanted, two()).variant.name == variant


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (asked(tpot_ms=5), "a token where 5 ms are allowed"),
        (asked(ttft_ms=50), "to the first token where 50 ms are allowed"),
        (asked(size=2560, ttft_ms=150), "to the first token where 150 ms are allowed"),
        (asked(8 * 256, batch=8, target=SMALL, ttft_ms=250), "to the first token where 250 ms are allowed"),
        (asked(latency_ms=500), "for the answer where 500 ms are allowed"),
        (asked(min_accuracy=0.7, tpot_ms=20), "has accuracy 0.5000 where 0.7 is required"),
        (asked(max_cost=1e-9), "per 1000 tokens where 1e-09 is allowed"),
    ],
)
def test_choose_refuses_needs_that_no_variant_meets(wanted: Query, words: str) -> None:
    error = refused(wanted, two()).error
    assert isinstance(error, Unsatisfiable)
    assert words in str(error)


def give(state: ClusterState, wanted: Query, count: int) -> None:
    """Send some queries."""
    for _ in range(count):
        found = chosen(wanted, state)
        assert found.instance is not None
        state.sent(found.instance, found.partition, wanted.batch, NOW, inf)


def test_choose_counts_answers_that_query_meets_and_waits_for() -> None:
    state, fits = two(), asked(tpot_ms=12.5)
    free_s = chosen(asked(target=SMALL), state).predicted_s
    give(state, fits, 2)
    refusal = refused(fits, state)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.error.reason is RefusalReason.INSTANCES_BUSY
    assert chosen(asked(tpot_ms=20), state).variant.name == SMALL
    assert chosen(asked(tpot_ms=12.5, allow_late=True), state)
    give(state, asked(target=SMALL), 2)
    assert chosen(asked(target=SMALL), state).predicted_s > free_s + 0.2, "all places are taken"
    assert isinstance(refused(asked(target=SMALL, ttft_ms=250), state).error, Overloaded)
    large = two()
    give(large, asked(batch=500, target=SMALL, allow_late=True), 1)
    assert chosen(asked(target=SMALL), large).predicted_s > free_s + 10, "each of its inputs takes a place"


def test_choose_takes_free_replica_beyond_aperture() -> None:
    state = state_of(generative(SMALL, 0.5))
    for place in range(2):
        state.apply_status(status(instance(SMALL, partitions=(place,), parallel=4), worker=f"w{place}"), NOW)
    state.use_shares({TASK: TaskShare(frozenset({0}), 2)})
    give(state, asked(ttft_ms=250), 4)
    assert state.workers["w1"].instances[SMALL].waiting(NOW) == 0
    beyond = chosen(asked(ttft_ms=250), state).instance
    assert beyond is not None
    assert beyond.worker.name == "w1"


def test_choose_counts_queue_of_unloaded_variant() -> None:
    state, needs = state_of(generative(SMALL, 0.5)), asked(ttft_ms=3000)
    state.apply_status(status(), NOW)
    found = chosen(needs, state)
    for _ in range(20):
        state.sent(None, found.partition, 1, NOW, inf)
    assert refused(needs, state).error.reason is RefusalReason.NOT_LOADED


def test_refusal_names_variant_nearest_to_needs_of_each_query() -> None:
    state = state_of(
        generative(SMALL, 0.5, step_ms=10.0, prefill_ms=500.0), generative(LARGE, 0.8, step_ms=50.0, prefill_ms=100.0)
    )
    state.apply_status(status(instance(SMALL, parallel=4), instance(LARGE, parallel=4)), NOW)
    assert f"nearest, {SMALL}" in str(refused(asked(tpot_ms=5), state).error)
    assert f"nearest, {LARGE}" in str(refused(asked(ttft_ms=50), state).error)


def test_choose_loads_variant_only_if_answer_is_in_time() -> None:
    state = state_of(generative(SMALL, 0.5), generative(LARGE, 0.8))
    state.apply_status(status(), NOW)
    assert chosen(asked(ttft_ms=3000), state).instance is None
    refusal = refused(asked(ttft_ms=300), state)
    assert refusal.error.reason is RefusalReason.NOT_LOADED
    assert refusal.wanted is not None


def test_choose_refuses_needs_of_tokens_for_other_tasks() -> None:
    with pytest.raises(InvalidRequest, match="not generative"):
        choose(asked(tpot_ms=10), state_of(registered("cnn.onnx-fp32.cpu")), NOW, NO_UPGRADES)


def beside_cascade() -> ClusterState:
    """Return a state of a large variant and a cascade that escalates a fifth of its answers to such a one."""
    large, whole = generative(LARGE, 0.8, step_ms=50.0, prefill_ms=500.0)
    of_cascade = msgspec.structs.replace(
        cast(GenerationProfile, whole.generation), draft=generation(step_ms=10.0), escalated=0.2
    )
    made = variant(BOTH, max_batch=1), msgspec.structs.replace(whole, variant=BOTH, generation=of_cascade)
    state = state_of((large, whole), made)
    state.apply_status(status(instance(LARGE, parallel=4), instance(BOTH, parallel=4)), NOW)
    return state


def test_choose_takes_cascade_only_if_query_can_wait_for_draft() -> None:
    """A draft of 100 tokens takes 1.09 s, and the prompt of the large model 0.5 s."""
    for needs, name in (
        ({"ttft_ms": 1700}, BOTH),
        ({"ttft_ms": 1500}, LARGE),
        ({"ttft_ms": 800, "max_tokens": 10}, BOTH),
        ({"ttft_ms": 1700, "tpot_ms": 55}, BOTH),
        ({}, LARGE),
        ({"latency_ms": 6000}, LARGE),
        ({"latency_ms": 7000}, BOTH),
    ):
        assert chosen(asked(TYPICAL, **needs), beside_cascade()).variant.name == name, needs
    assert "a token where 40 ms are allowed" in str(refused(asked(tpot_ms=40), beside_cascade()).error)


def test_choose_expects_long_drafts_of_cascade() -> None:
    """One in ten texts that it has made had 400 tokens, which is a draft of 4.1 s."""
    state, meter = beside_cascade(), LengthMeter()
    for number in range(100):
        meter.add(400 if number % 10 == 0 else 20, cut=False)
    reported = msgspec.structs.replace(instance(BOTH, parallel=4), answer_lengths=meter.counts)
    state.apply_status(status(instance(LARGE, parallel=4), reported), NOW)
    assert chosen(asked(TYPICAL, ttft_ms=4500), state).variant.name == LARGE
    assert chosen(asked(TYPICAL, ttft_ms=5500), state).variant.name == BOTH


def test_cascade_costs_drafts_and_share_of_answers_that_escalate() -> None:
    state = beside_cascade()
    cost = {name: chosen(asked(target=name, allow_late=True), state).cost for name in (LARGE, BOTH)}
    assert cost[BOTH] == pytest.approx(cost[LARGE] * (1.09 + 0.2 * 5.45) / 5.45)


def learned(name: str, tokens: int, *, cut: bool = False, worker: str = "cpu-0", answers: int = 100) -> WorkerStatus:
    """Return a status of an instance whose last answers all had `tokens` tokens."""
    meter = LengthMeter()
    for _ in range(answers):
        meter.add(tokens, cut=cut)
    reported = msgspec.structs.replace(instance(name, parallel=4), answer_lengths=meter.counts)
    return status(reported, worker=worker)


def test_lengths_of_other_variant_stand_in_for_new_one() -> None:
    state, needs = two(), asked(latency_ms=1500, min_accuracy=0.7)
    assert isinstance(refused(needs, state).error, Unsatisfiable)
    state.apply_status(
        msgspec.structs.replace(
            learned(SMALL, 10), instances=(*learned(SMALL, 10).instances, instance(LARGE, parallel=4))
        ),
        NOW,
    )
    assert chosen(needs, state).variant.name == LARGE


def test_lengths_outlive_last_instance_and_follow_next_one() -> None:
    state = state_of(generative(SMALL, 0.5))
    variant = state.tasks[TASK].variants[0]
    model = variant.generation
    assert model is not None

    def median() -> int:
        return state.lengths.of(variant, model).median

    state.apply_status(learned(SMALL, 5), NOW)
    state.apply_status(learned(SMALL, 7, worker="cpu-1", answers=200), NOW)
    assert median() == 7
    state.expire(NOW + 60)
    assert median() == 7
    state.apply_status(status(instance(SMALL, parallel=4), worker="cpu-2"), NOW + 61)
    assert median() == 7
    state.apply_status(learned(SMALL, 3, worker="cpu-2", answers=20), NOW + 61)
    assert state.lengths.of(variant, model).answers <= 20
    assert median() == 3
    state.register([TASK], [], {})
    assert state.lengths.of(variant, model) == model.lengths


def test_estimate_follows_correction_of_instance() -> None:
    state = state_of(generative(SMALL, 0.5))
    state.apply_status(status(instance(SMALL, parallel=4)), NOW)
    needs = asked(tpot_ms=12, allow_late=True)
    before = chosen(needs, state).predicted_s
    state.apply_status(status(instance(SMALL, parallel=4, correction=2.0)), NOW)
    assert chosen(needs, state).predicted_s == pytest.approx(2 * before, rel=0.05)
    assert isinstance(refused(asked(tpot_ms=12), state).error, Overloaded)
    state.apply_status(status(instance(SMALL, parallel=4, correction=0.5)), NOW)
    assert chosen(asked(tpot_ms=6), state)


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(1, 20), st.integers(1, 20),
)  # fmt: skip
def test_generation_model_never_falls(prompt: int, longer: int, tokens: int, some: int, more: int) -> None:
    model = GenerationModel(generation())
    assert model.prefill_s(prompt) <= model.prefill_s(prompt + longer)
    assert model.step_s(some) <= model.step_s(some + more)
    assert model.answer_s(prompt, tokens, some) <= model.answer_s(prompt + longer, tokens + 1, some + more)
    assert model.token_s(offline=True) <= model.token_s(offline=False)


def test_choose_follows_learned_lengths() -> None:
    state = state_of(generative(SMALL, 0.5))
    short, long = asked(latency_ms=500), asked(latency_ms=2000)
    state.apply_status(status(instance(SMALL, parallel=4)), NOW)
    assert isinstance(refused(short, state).error, Unsatisfiable)
    assert chosen(long, state)
    state.apply_status(learned(SMALL, 10), NOW)
    assert chosen(short, state).predicted_s < 0.5
    state.apply_status(learned(SMALL, 400), NOW)
    assert isinstance(refused(long, state).error, Unsatisfiable)
    assert chosen(asked(latency_ms=2000, max_tokens=100), state)
    waits_s = list[float]()
    for tokens in (10, 1000):
        state = two()
        state.apply_status(learned(SMALL, tokens), NOW)
        give(state, asked(target=SMALL, max_tokens=10), 4)
        waits_s.append(chosen(asked(target=SMALL, max_tokens=10), state).predicted_s)
    assert waits_s[1] > waits_s[0] + 3.0


def considered(state: ClusterState, wanted: Query) -> dict[str, dict[str, Any]]:
    """Return the explanation's rows by variant."""
    found = explained(explain(wanted, state, NOW, NO_UPGRADES, choose(wanted, state, NOW, NO_UPGRADES)))
    return {row["variant"]: row for row in cast("list[dict[str, Any]]", found["considered"])}


def test_explain_states_times_and_tokens_of_answers() -> None:
    rows = considered(two(), asked(min_accuracy=0.7, ttft_ms=3000))
    assert (rows[LARGE]["verdict"], rows[SMALL]["verdict"]) == ("chosen", "is not accurate enough")
    assert rows[LARGE]["tpot_ms"] == [50.0, 100.0]
    assert all(row["ttft_ms"][0] < row["predicted_ms"] for row in rows.values())
    rows = considered(beside_cascade(), asked(TYPICAL, ttft_ms=1500))
    assert rows[BOTH]["verdict"] == "its first token would be late"
    assert rows[BOTH]["ttft_ms"][0] - rows[LARGE]["ttft_ms"][0] == pytest.approx(1090, abs=1), "the draft"
    assert rows[BOTH]["tpot_ms"] == rows[LARGE]["tpot_ms"]
    state = two()
    state.apply_status(learned(SMALL, 40), NOW)
    assert considered(state, asked(target=SMALL))[SMALL]["answer_tokens"] == pytest.approx([40, 100], rel=0.15)
