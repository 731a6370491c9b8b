"""Tests of settings that are read from the processes of services, or given."""

import pytest

from infaas.calibrate.service_settings import settings_document, system_settings
from schemas.errors import OperatorError
from simulator.scenario_file import convert_scenario
from tests.unit.infaas.calibrate.states import system


def test_settings_of_services_become_fields_of_scenario() -> None:
    document = settings_document(
        {
            "autoscaler": {
                "INFAAS_AUTOSCALER_HEADROOM": "1.2",
                "INFAAS_AUTOSCALER_POLICY": "greedy",
                "INFAAS_AUTOSCALER_MIN_WORKERS": '{"cpu": 2}',
                "INFAAS_AUTOSCALER_LIVENESS_TIMEOUT_S": "12",
                "INFAAS_DEFAULT_LATENCY_S": "0.5",
                "INFAAS_AUTOSCALER_LAUNCHER": "processes",
            },
            "selector": {"INFAAS_SELECTOR_UPGRADES": "false", "INFAAS_DEFAULT_LATENCY_S": "0.5"},
            "workers": {"INFAAS_WORKERS_LEASE_TTL_S": "4", "INFAAS_WORKERS_NAME": "cpu-0"},
        }
    )
    scenario = convert_scenario(document)
    assert scenario.scaling.limits.headroom == 1.2
    assert scenario.scaling.limits.default_latency_s == scenario.policy.default_latency_s == 0.5
    assert scenario.scaling.policy == "greedy"
    assert scenario.scaling.min_workers == {"cpu": 2}
    assert scenario.scaling.timeouts.liveness_timeout_s == 12
    assert not scenario.policy.upgrades
    assert scenario.workers.lease_ttl_s == 4


def test_settings_that_simulator_cannot_take_are_left_out() -> None:
    assert settings_document({"autoscaler": {"INFAAS_AUTOSCALER_HEADROOM": "much"}}) == {}


def test_system_settings_hold_numbers_of_services() -> None:
    found = system_settings(system("selector", "selector", "gateway", "workers"), {})
    assert (found.selectors, found.gateways) == (2, 1)
    assert system_settings(None, {}).selectors == 1


def test_given_settings_replace_read_ones() -> None:
    found = system_settings(system("selector"), {"selectors": 3, "scaling.limits.headroom": 1.3})
    assert (found.selectors, found.scaling.limits.headroom) == (3, 1.3)


@pytest.mark.parametrize(("path", "message"), [
    ("drain_s", "drain_s cannot be set: a calibration has settings of maximum, selectors"),
    ("machine.cpus", "machine.cpus cannot be set"),
    ("selector", "selector cannot be set"),
    ("scaling.headroom", "unknown field `headroom`"),
])  # fmt: skip
def test_settings_without_effect_are_refused(path: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        system_settings(None, {path: 1})
