"""Tests of `LoadMeter`: queries are counted by load class, in bounded memory."""

from math import inf

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.load_classes import CLASSES, LoadClass, latency_bucket
from schemas.query import Mode, Needs, Query
from selector.dispatch.load_meter import LoadMeter

VARIANT = "mlp.onnx-fp32.cpu"


def a_query(task: str = "digits", batch: int = 1, within_ms: float | None = None, **needs: object) -> Query:
    return Query(
        id="q", task=task, reply_to="r", sent_ms=1000.0, batch=batch,
        deadline_ms=None if within_ms is None else 1000.0 + within_ms, needs=Needs(**needs),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def test_load_meter_counts_each_query_in_one_report() -> None:
    meter = LoadMeter("selector-0")
    meter.forwarded(a_query(batch=3), VARIANT, upgraded=False)
    meter.forwarded(a_query(batch=2), VARIANT, upgraded=True)
    meter.refused(a_query(), overloaded=True)
    meter.refused(a_query(), overloaded=False)
    said = meter.report(5.0)
    (count,) = said.classes
    assert (said.selector, said.at_ms, said.variants) == ("selector-0", 5.0, {VARIANT: 5})
    assert count.load_class == LoadClass("digits")
    assert (count.queries, count.inputs, count.refused, count.upgraded) == (4, 7, 1, 1)
    assert meter.report(6.0).classes == ()


def test_load_meter_counts_refusals_of_gateways() -> None:
    meter = LoadMeter("selector-0")
    meter.forwarded(msgspec.structs.replace(a_query(batch=2), rejected_upstream=5), VARIANT, upgraded=False)
    (count,) = meter.report(5.0).classes
    assert (count.queries, count.inputs, count.refused) == (6, 12, 5)


def test_load_meter_sums_maximum_costs_of_queries_that_state_one() -> None:
    meter = LoadMeter("selector-0")
    meter.forwarded(a_query(batch=4, max_cost=2.0), VARIANT, upgraded=False)
    meter.refused(msgspec.structs.replace(a_query(max_cost=1.5), rejected_upstream=1), overloaded=True)
    meter.forwarded(a_query(), VARIANT, upgraded=False)
    for absurd in (1e308, 1e308, inf):
        meter.forwarded(a_query(max_cost=absurd), VARIANT, upgraded=False)
    (count,) = meter.report(5.0).classes
    assert (count.queries, count.capped, count.max_costs) == (7, 3, 0.5 + 2 * 1.5)


def test_load_meter_rounds_needs_to_a_class() -> None:
    meter = LoadMeter("s")
    for accuracy, ms in ((0.57, 100), (0.57009, 90.6)):
        needed = a_query(within_ms=ms, min_accuracy=accuracy, target="mlp", mode=Mode.OFFLINE)
        meter.forwarded(needed, VARIANT, upgraded=False)
    (count,) = meter.report(0).classes
    assert count.load_class == LoadClass("digits", "mlp", 0.57, 90.51, True)


@given(st.floats(min_value=0.07, max_value=1e7))
def test_latency_bucket_contains_its_values(ms: float) -> None:
    bucket = latency_bucket(ms)
    assert 2 ** (bucket / 2) <= ms * (1 + 1e-12)
    assert ms < 2 ** ((bucket + 1) / 2) * (1 + 1e-12)


@pytest.mark.parametrize("ms", [-5.0, 0.0, 1e-9, 1e300])
def test_latency_bucket_limits_extreme_values(ms: float) -> None:
    assert latency_bucket(ms) in (latency_bucket(0.0), latency_bucket(1e299))


def test_load_meter_bounds_classes_without_loss() -> None:
    meter = LoadMeter("s")
    for number in range(2 * CLASSES):
        needed = a_query(within_ms=2.0 ** (number % 20), min_accuracy=number % 100 / 100)
        meter.forwarded(needed, VARIANT, upgraded=False)
    meter.forwarded(a_query("other"), VARIANT, upgraded=False)
    by_task: dict[str, list[int]] = {}
    for count in meter.report(0).classes:
        by_task.setdefault(count.load_class.task, []).append(count.queries)
    assert by_task["other"] == [1]
    assert len(by_task["digits"]) <= CLASSES
    assert sum(by_task["digits"]) == 2 * CLASSES


def test_load_meter_keeps_mode_beyond_class_limit() -> None:
    meter = LoadMeter("s")
    for number in range(2 * CLASSES):
        needed = a_query(mode=Mode.OFFLINE, target=f"t{number}")
        meter.forwarded(needed, VARIANT, upgraded=False)
    counts = meter.report(0).classes
    assert len(counts) <= CLASSES
    assert all(count.load_class.offline for count in counts)
    assert sum(count.queries for count in counts) == 2 * CLASSES


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.none() | st.floats(0.1, 1e6), st.sampled_from([None, "t"])), max_size=40
    )
)
def test_load_meter_counts_alike_queries_as_others(queries: list[tuple[str, float | None, str | None]]) -> None:
    """Queries with the same needs object, of which a meter remembers the class, and with needs of their own."""
    together, apart = LoadMeter("s"), LoadMeter("s")
    needs = Needs(min_accuracy=0.5)
    for task, within_ms, tenant_class in queries:
        asked = a_query(task, within_ms=within_ms)
        together.forwarded(msgspec.structs.replace(asked, needs=needs), VARIANT, False, tenant_class)
        own = msgspec.structs.replace(asked, needs=Needs(min_accuracy=0.5))
        apart.forwarded(own, VARIANT, False, tenant_class)
    assert together.report(0.0) == apart.report(0.0)
