"""Tests of list prices: selector, autoscaler and batch planner use the same ones if a worker has no price."""

import msgspec
import pytest

from autoscaler.decide.pareto import live_cores, rank_variants
from infaas.batch.plan import find_offers
from schemas.hardware import SLOT_PRICE_PER_HOUR, CorePrice, Hardware, cost_per_1000, list_price
from selector.policy.variants import PricedVariant
from tests.example_rows import a_profile, a_variant, a_worker

DEAREST = max(SLOT_PRICE_PER_HOUR.values())


@pytest.mark.parametrize("hardware", [*Hardware])
def test_list_price_grows_with_cores_only_for_cpu(hardware: Hardware) -> None:
    factor = 4 if hardware is Hardware.CPU else 1
    assert list_price(hardware, 4) == factor * SLOT_PRICE_PER_HOUR[hardware]


def test_list_price_of_unknown_hardware_is_the_highest() -> None:
    assert list_price("quantum", 4) == DEAREST


@pytest.mark.parametrize("hardware", [*Hardware, "quantum"])
@pytest.mark.parametrize("threads", [1, 4])
def test_list_price_same_in_selector_and_autoscaler(hardware: str, threads: int) -> None:
    variant = a_variant(f"mlp.onnx-fp32.{hardware}")
    priced = PricedVariant(variant, msgspec.structs.replace(a_profile(variant.name), threads=threads))
    worker = msgspec.structs.replace(
        a_worker(), hardware=hardware, threads=threads, price_per_hour=0.0, runtimes=("onnx",), alive=True
    )
    offer = live_cores([worker])[hardware, "onnx"]
    assert offer.price.usd_per_hour * priced.threads == priced.price == list_price(hardware, threads)


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
