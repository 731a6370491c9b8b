"""Tests of the plan of a batch job: its variant, its duration and its cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from infaas.batch.limits import BatchLimits
from infaas.batch.plan import MOST_ROWS, BatchNeeds, Offer, find_offers, make_plan, rows_of_chunk
from schemas.errors import OperatorError, Unsatisfiable
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.generation_model import GenerationModel
from schemas.hardware import cost_per_1000, list_price
from schemas.status import SERVING, InstanceState
from tests.example_rows import a_profile, a_variant, a_worker, an_instance

CHEAP = Offer(
    variant="a.onnx-fp32.cpu", architecture="a", accuracy=0.9, max_batch=16, row_s=1e-3, alone_s=2e-3, row_cost=1e-6,
    slots=2,
)  # fmt: skip
BETTER = replace(CHEAP, architecture="b", accuracy=0.99)
GOOD = replace(BETTER, variant="b.onnx-fp32.cpu", alone_s=9e-3, row_s=4e-3, row_cost=4e-6)
FAST = replace(BETTER, variant="b.cuda", row_s=1e-4, row_cost=2e-5, load_s=3.0, slots=1)
ALL = (GOOD, FAST, CHEAP)
NO_LIMITS = BatchLimits()


def chosen(needs: BatchNeeds, limits: BatchLimits = NO_LIMITS, rows: int | None = 1_000_000) -> str:
    return make_plan(rows, 100.0, ALL, needs, limits).variant


def test_make_plan_chooses_cheapest_variant_within_limits() -> None:
    assert chosen(BatchNeeds()) == CHEAP.variant
    assert chosen(BatchNeeds(min_accuracy=0.95)) == GOOD.variant
    assert chosen(BatchNeeds(min_accuracy=0.95, max_latency_ms=5)) == FAST.variant
    assert chosen(BatchNeeds(min_accuracy=0.95), BatchLimits(deadline_s=1000)) == FAST.variant
    assert chosen(BatchNeeds(target="b")) == GOOD.variant
    assert chosen(BatchNeeds(target="b.cuda")) == FAST.variant
    assert chosen(BatchNeeds(), BatchLimits(deadline_s=1, max_cost=0), rows=None) == CHEAP.variant


def test_make_plan_estimates_all_slots_and_loading() -> None:
    cheap, fast = (make_plan(1_000_000, 100.0, [offer], BatchNeeds(), NO_LIMITS) for offer in (CHEAP, FAST))
    assert (cheap.seconds, cheap.cost) == (pytest.approx(500.0), pytest.approx(1.0))
    assert (fast.seconds, fast.cost) == (pytest.approx(103.0), pytest.approx(20.0))


@pytest.mark.parametrize("state", InstanceState)
def test_find_offers_without_load_time_while_serving(state: InstanceState) -> None:
    variant, placed = a_variant(), replace(an_instance(), state=state)
    (offer,) = find_offers(variant.task, [variant], {variant.name: a_profile()}, [a_worker()], [placed])
    assert (offer.load_s == 0) == (state in SERVING)


def test_find_offers_prices_typical_answer_of_generative_variant() -> None:
    """The price of generated text is per token, the limit of a job for all its rows."""
    generation = GenerationProfile(
        context_tokens=2048, sequences=1, prompt_tokens=10, answer_tokens=21, bytes_per_token=4.0,
        prefill=(PrefillTime(tokens=10, p50_s=0.1, p99_s=0.2),), step=(StepTime(sequences=1, p50_s=0.01, p99_s=0.02),),
    )  # fmt: skip
    variant, profile = a_variant(), replace(a_profile(), generation=generation)
    (offer,), (short,), (long,) = (
        find_offers(variant.task, [variant], {variant.name: profile}, [a_worker()], [], max_tokens=tokens)
        for tokens in (None, 1, 100)
    )
    price = cost_per_1000(GenerationModel(generation).typical_s(1), list_price("cpu", profile.threads)) / 1000
    assert offer.row_cost == pytest.approx(price, rel=0.01)
    assert short.row_cost == pytest.approx(offer.row_cost / 21)
    assert short.row_s == pytest.approx(offer.row_s / 3), "0.1 s of 0.1 s and 20 steps of 0.01 s"
    assert long == offer


def test_make_plan_refuses_impossible_job_with_estimate() -> None:
    cheapest, fastest = r"a\.onnx-fp32\.cpu about 500 s and 1 USD", r"b\.cuda about 103 s and 20 USD"
    with pytest.raises(
        OperatorError, match=f"within 10 s and 2 USD: the cheapest takes {cheapest}, the fastest, {fastest}"
    ):
        chosen(BatchNeeds(), BatchLimits(deadline_s=10, max_cost=2))
    with pytest.raises(Unsatisfiable, match=r"no variant meets min_accuracy 1.0; the most accurate is b\."):
        chosen(BatchNeeds(min_accuracy=1.0))
    with pytest.raises(OperatorError, match=r"no worker runs that could compute b\.cuda"):
        make_plan(1, 1.0, [replace(FAST, slots=0)], BatchNeeds(), NO_LIMITS)
    with pytest.raises(Unsatisfiable, match="nothing is registered"):
        make_plan(1, 1.0, [], BatchNeeds(), NO_LIMITS)


@given(st.floats(1e-7, 10), st.integers(1, 64), st.floats(0, 1e9))
def test_rows_of_chunk_are_full_batches_and_bounded(row_s: float, max_batch: int, row_bytes: float) -> None:
    offer = replace(CHEAP, row_s=row_s, max_batch=max_batch)
    rows = rows_of_chunk(offer, row_bytes)
    assert 1 <= rows <= MOST_ROWS
    assert rows % max_batch == 0 or rows < max_batch
    assert rows == 1 or rows * row_bytes <= 1 << 20
    plan = make_plan(None, row_bytes, [offer], BatchNeeds(), NO_LIMITS)
    assert plan.in_flight == 1 or plan.in_flight * rows * row_bytes <= 64 << 20
