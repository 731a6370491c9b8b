"""Regression scenarios: cases in which the policy does badly may not become worse (`bench/search`)."""

import pytest

from bench.search.audit import audited_selector
from bench.search.case import SearchCase, simpler
from bench.search.kept import KEPT, KeptCase
from simulator.services.infaas import InfaasSystem
from simulator.simulation import simulate
from simulator.summary import summarize


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_kept_case_is_no_worse(kept: KeptCase) -> None:
    figures = summarize(simulate(kept.case.scenario()))
    assert figures.violations <= kept.violations
    assert figures.usd_per_hour <= kept.usd_per_hour


def test_audit_finds_refusals_beside_idle_instances() -> None:
    found: list[int] = []
    selector = audited_selector(found)
    simulate(KEPT[0].case.scenario(), lambda context: InfaasSystem(context, selector))
    assert found


def test_simpler_cases_differ_by_one_field_less() -> None:
    case = SearchCase(rate=1.0, tasks=2)
    assert [one.changes() for one in simpler(case)] == [{"tasks": 2}, {"rate": 1.0}]
    assert not SearchCase().changes()
