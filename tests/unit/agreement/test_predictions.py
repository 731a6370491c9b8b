"""Tests of latency predictions: selector, worker and autoscaler agree, and more inputs never take less time."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decide.pareto import CoreOffer, rank_variants
from schemas.catalog import Catalog
from schemas.hardware import CorePrice, cost_per_1000
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.catalog import Profile, Variant
from selector.policy.variants import PricedVariant
from tests.example_rows import a_profile, a_task, a_variant, an_architecture
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
@settings(max_examples=200, deadline=None)
def test_latency_predictions_agree_across_components(medians: dict[int, float], max_batch: int) -> None:
    tables = {
        who: [model.batch_s(batch) for batch in range(MOST)]
        for who, model in predictions(*registered(medians, max_batch)).items()
    }
    assert tables["worker"] == tables["selector"]
    assert tables["autoscaler"] == tables["selector"]


@given(profiles, st.integers(1, 128))
@settings(max_examples=200, deadline=None)
def test_latency_prediction_never_decreases_with_inputs(medians: dict[int, float], max_batch: int) -> None:
    for who, model in predictions(*registered(medians, max_batch)).items():
        table = [model.batch_s(batch) for batch in range(max_batch + 1)]
        assert all(less <= more for less, more in pairwise(table)), who
        beyond = [model.batch_s(batch) for batch in range(max_batch, MOST)]
        assert all(less <= more * (1 + 1e-12) for less, more in pairwise(beyond)), who  # a sum of parts is rounded


@given(profiles)
@settings(max_examples=200, deadline=None)
def test_variant_ranking_uses_predicted_latency(medians: dict[int, float]) -> None:
    variant, profile = registered(medians, 64)
    offers = {(variant.hardware, variant.runtime): CoreOffer(CorePrice(PRICE), 1)}
    candidate = rank_variants({variant.name: variant}, {variant.name: profile}, offers).candidates[variant.name]
    model = PricedVariant(variant, profile).model
    assert candidate.latency_s == model.batch_s(min(medians))
    efficient_s = min(model.batch_s(batch) / batch for batch in medians)
    assert candidate.cost == pytest.approx(cost_per_1000(efficient_s, PRICE))
