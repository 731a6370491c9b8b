"""Tests of the regret of a run against the oracle's choices."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from selector.dispatch.explanation import CHOSEN, COSTS_MORE, LEFT_TO_OTHERS, NOT_LOADED
from simulator.catalogue import CatalogueVariant
from simulator.outcomes import QueryOutcome
from simulator.regret import OVERLOADED, RegretRow, regret_rows
from simulator.scenario import Scaling
from simulator.simulation import simulate
from simulator.trace import QueryKind
from tests.unit.simulator.small_scenarios import HARDWARE, KIND, scenario, variant

CPU = replace(HARDWARE, name="cpu", price_per_hour=2160.0)
STEADY = [n / 5 for n in range(101)]
T4, ON_CPU = variant("t4", [0.05]), variant("cpu", [0.2])
BATCHED = variant("t4", [0.14, 0.14, 0.14, 0.14])


def rows(
    *variants: CatalogueVariant,
    placed: dict[str, int],
    kinds: Sequence[QueryKind] = (KIND,),
    times: Sequence[float] = STEADY,
) -> list[RegretRow]:
    """Return the regret of a fixed fleet of one worker of each hardware."""
    made = scenario(
        times, variants, kinds, [HARDWARE, CPU], fleet={"t4": 1, "cpu": 1}, placed=placed, drain_s=1.0,
        scaling=Scaling(enabled=False),
    )  # fmt: skip
    found = regret_rows(simulate(made))
    assert sum(row.queries for row in found) == len(times)
    return list(found)


def test_regret_of_oracle_choice_is_zero() -> None:
    found = rows(T4, ON_CPU, placed={T4.name: 1, ON_CPU.name: 1})
    largest = max(found, key=lambda row: row.queries)
    assert (largest.taken, largest.choice, largest.why) == (T4.name, T4.name, CHOSEN)
    assert largest.usd_per_1000 == pytest.approx(0.0, abs=1e-6)


def test_regret_names_variant_that_is_not_loaded() -> None:
    found = rows(T4, ON_CPU, placed={ON_CPU.name: 1})
    largest = max(found, key=lambda row: row.queries)
    assert (largest.taken, largest.choice, largest.why) == (ON_CPU.name, T4.name, NOT_LOADED)
    assert largest.usd_per_1000 == pytest.approx(1000 * (0.2 * 0.6 - 0.05))


def test_regret_names_price_of_query_alone() -> None:
    times = [n / 5 for n in range(101) for _ in range(4)]
    found = rows(BATCHED, ON_CPU, placed={BATCHED.name: 1, ON_CPU.name: 1}, times=times)
    dearer = [row for row in found if row.taken == ON_CPU.name and row.choice == BATCHED.name]
    assert {row.why for row in dearer} == {COSTS_MORE, OVERLOADED}
    assert [row.usd_per_1000 for row in dearer] == pytest.approx([1000 * (0.2 * 0.6 - 0.14 / 4)] * 2)


def test_regret_of_impossible_query_is_nobodys() -> None:
    [row] = rows(ON_CPU, placed={ON_CPU.name: 1}, kinds=[replace(KIND, latency_ms=100.0)])
    assert row.outcome is not QueryOutcome.ANSWERED
    assert (row.choice, row.why) == ("", LEFT_TO_OTHERS)
