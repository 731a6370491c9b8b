"""Tests of predictions and prices: selector, worker, autoscaler and batch planner agree on them."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decide.pareto import CoreOffer, live_cores, rank_variants
from infaas.batch.plan import find_offers
from schemas.catalog import Catalog
from schemas.hardware import SLOT_PRICE_PER_HOUR, CorePrice, Hardware, cost_per_1000, list_price
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.catalog import Profile, Variant
from selector.policy.variants import PricedVariant
from tests.example_rows import a_profile, a_task, a_variant, a_worker, an_architecture
from workers.serving.model import find_model

PRICE = 0.048
MOST = 300

profiles = st.dictionaries(
    st.integers(1, 64), st.floats(1e-6, 10, allow_nan=False, allow_infinity=False), min_size=1, max_size=7
)


def registered(medians: dict[int, float], max_batch: int) -> tuple[Variant, Profile]:
    """Return a variant and a profile with these medians by batch size; larger batches may have lower medians."""
    latency = tuple(BatchLatency(batch, p50_s, 2 * p50_s) for batch, p50_s in sorted(medians.items()))
    return (
        msgspec.structs.replace(a_variant(), max_batch=max_batch),
        msgspec.structs.replace(a_profile(), latency=latency),
    )


def predictions(variant: Variant, profile: Profile) -> dict[str, LatencyModel]:
    """Return the latency model of each component by the component's name."""
    catalog = Catalog(
        tasks={variant.task: a_task(variant.task)},
        architectures={variant.architecture: an_architecture(variant.architecture, variant.task)},
        variants={variant.name: variant},
        profiles={variant.name: profile},
    )
    ranking = rank_variants(
        catalog.variants, catalog.profiles, {(variant.hardware, variant.runtime): CoreOffer(CorePrice(PRICE), 1)}
    )
    return {
        "selector": PricedVariant(variant, profile).model,
        "worker": find_model(catalog, variant.name, variant.max_batch).latency,
        "autoscaler": ranking.candidates[variant.name].latency,
    }


@given(profiles, st.integers(1, 128))
@settings(deadline=None)
def test_latency_predictions_agree_and_never_decrease_with_inputs(medians: dict[int, float], max_batch: int) -> None:
    tables = {
        who: [model.batch_s(batch) for batch in range(MOST)]
        for who, model in predictions(*registered(medians, max_batch)).items()
    }
    assert tables["worker"] == tables["autoscaler"] == tables["selector"]
    table = tables["selector"]
    assert all(less <= more for less, more in pairwise(table[: max_batch + 1]))
    assert all(less <= more * (1 + 1e-12) for less, more in pairwise(table[max_batch:]))  # a sum of parts is rounded


@given(profiles)
@settings(deadline=None)
def test_variant_ranking_uses_predicted_latency(medians: dict[int, float]) -> None:
    variant, profile = registered(medians, 64)
    offers = {(variant.hardware, variant.runtime): CoreOffer(CorePrice(PRICE), 1)}
    candidate = rank_variants({variant.name: variant}, {variant.name: profile}, offers).candidates[variant.name]
    model = PricedVariant(variant, profile).model
    assert candidate.latency_s == model.batch_s(min(medians))
    efficient_s = min(model.batch_s(batch) / batch for batch in medians)
    assert candidate.cost == pytest.approx(cost_per_1000(efficient_s, PRICE))


@pytest.mark.parametrize("hardware", [*Hardware, "quantum"])
@pytest.mark.parametrize("threads", [1, 4])
def test_list_price_same_in_selector_and_autoscaler(hardware: str, threads: int) -> None:
    """It grows with cores of a CPU only; unknown hardware has the highest one."""
    variant = a_variant(f"mlp.onnx-fp32.{hardware}")
    priced = PricedVariant(variant, msgspec.structs.replace(a_profile(variant.name), threads=threads))
    worker = msgspec.structs.replace(
        a_worker(), hardware=hardware, threads=threads, price_per_hour=0.0, runtimes=("onnx",), alive=True
    )
    offer = live_cores([worker])[hardware, "onnx"]
    factor = threads if hardware == Hardware.CPU else 1
    known = {str(kind): price for kind, price in SLOT_PRICE_PER_HOUR.items()}
    expected = factor * known.get(hardware, max(known.values()))
    assert offer.price.usd_per_hour * priced.threads == priced.price == list_price(hardware, threads) == expected


def test_variant_price_covers_all_cores_of_its_slot() -> None:
    """Otherwise a variant that leaves a core of its slot idle would be cheaper than one that uses both cores."""
    variants = [a_variant(f"mlp.onnx-fp{bits}.cpu") for bits in (32, 16)]
    profiles = [msgspec.structs.replace(a_profile(one.name), threads=n) for n, one in enumerate(variants, 1)]
    worker = msgspec.structs.replace(a_worker(slots=2), threads=2, price_per_hour=0.4, runtimes=("onnx",))
    offers = live_cores([worker])
    candidates = rank_variants({v.name: v for v in variants}, {p.variant: p for p in profiles}, offers).candidates
    priced = [PricedVariant(*one, CorePrice(0.1, 2)) for one in zip(variants, profiles, strict=True)]
    assert [one.price for one in priced] == pytest.approx([0.2, 0.2])
    costs = [candidate.cost for candidate in candidates.values()]
    assert costs == pytest.approx([cost_per_1000(priced[0].model.input_s(), 0.2)] * 2)
    known = {profile.variant: profile for profile in profiles}
    found = find_offers(variants[0].task, variants, known, [worker], ())
    assert [offer.row_cost for offer in found] == [one.cost(1, offline=True) / 1000 for one in priced]
