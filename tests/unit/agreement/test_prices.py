"""Selector, autoscaler and command line price what nobody has priced by one list."""

import msgspec
import pytest

from autoscaler.decide.pareto import live_cores
from schemas.hardware import SLOT_PRICE_PER_HOUR, Hardware, list_price
from selector.variants import PricedVariant
from tests.store_rows import a_profile, a_variant, a_worker

DEAREST = max(SLOT_PRICE_PER_HOUR.values())


@pytest.mark.parametrize("hardware", [*Hardware])
def test_only_of_a_cpu_more_cores_cost_more(hardware: Hardware) -> None:
    factor = 4 if hardware is Hardware.CPU else 1
    assert list_price(hardware, 4) == factor * SLOT_PRICE_PER_HOUR[hardware]


def test_unknown_hardware_is_priced_as_the_dearest_known() -> None:
    assert list_price("quantum", 4) == DEAREST


@pytest.mark.parametrize("hardware", [*Hardware, "quantum"])
@pytest.mark.parametrize("threads", [1, 4])
def test_selector_and_autoscaler_take_the_list_price_alike(hardware: str, threads: int) -> None:
    variant = a_variant(f"mlp.onnx-fp32.{hardware}")
    priced = PricedVariant(variant, msgspec.structs.replace(a_profile(variant.name), threads=threads))
    worker = msgspec.structs.replace(
        a_worker(), hardware=hardware, threads=threads, price_per_hour=0.0, runtimes=("onnx",), alive=True
    )
    offer = live_cores([worker])[hardware, "onnx"]
    assert offer.price * priced.threads == priced.price == list_price(hardware, threads)
