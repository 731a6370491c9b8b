"""Tests of settings: each default is defined once, and services that must agree on a value share one setting."""

import inspect
import os

import msgspec
import pytest

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import ScalingLimits
from autoscaler.settings import AutoscalerSettings
from broker.kafka.settings import KafkaSettings
from gateway.settings import GatewaySettings
from infaas.cli.connect import DEFAULT_HOME
from infaas.cli.register import register
from infaas.cli.system import up
from infaas.up.options import UpOptions
from registry.request import Registration
from selector.policy.choice import PolicyConfig
from selector.policy.cluster_state import ClusterState
from selector.settings import SelectorSettings
from simulator.scenario import Scaling, Workers
from store.placement import ALIVE_S
from workers.settings import WorkerSettings
from zoo.register import register_zoo


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of the environment of the tests, which would hide the defaults."""
    for variable in [name for name in os.environ if name.startswith("INFAAS_")]:
        monkeypatch.delenv(variable)


def test_settings_defaults_match_decision_defaults() -> None:
    assert AutoscalerSettings().limits == ScalingLimits()
    assert AutoscalerSettings().reconcile_timeouts == ReconcileTimeouts()
    assert SelectorSettings().policy_config() == PolicyConfig()
    assert ClusterState().hop_s == ScalingLimits().hop_s == SelectorSettings().hop_s


@pytest.mark.parametrize("name", sorted(ScalingLimits.__struct_fields__))
def test_scaling_limit_setting_reaches_the_decision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = AutoscalerSettings.model_fields.get(name)
    if field is None:
        assert getattr(AutoscalerSettings().limits, name) == getattr(ScalingLimits(), name)
        return
    value = 0.5 if name == "memory_share" else 7
    monkeypatch.setenv(str(field.validation_alias or f"INFAAS_AUTOSCALER_{name.upper()}"), str(value))
    assert getattr(AutoscalerSettings().limits, name) == value


@pytest.mark.parametrize(
    ("variable", "name"), [("INFAAS_DEFAULT_LATENCY_S", "default_latency_s"), ("INFAAS_HOP_S", "hop_s")]
)
def test_planning_setting_reaches_selector_and_autoscaler(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "0.25")
    selector, autoscaler = SelectorSettings(), AutoscalerSettings()
    assert getattr(autoscaler.limits, name) == getattr(selector, name) == 0.25
    if name in PolicyConfig.__struct_fields__:
        assert getattr(selector.policy_config(), name) == 0.25


def test_simulated_services_default_to_service_settings() -> None:
    worker, autoscaler = WorkerSettings().model_dump(), AutoscalerSettings()
    workers = msgspec.structs.asdict(Workers())
    shared = workers.keys() & worker.keys()
    own = {"heartbeat_timeout_s", "overhead_s", "interference", "start_deviation"}
    assert workers.keys() - shared == own
    assert {name: workers[name] for name in shared} == {name: worker[name] for name in shared}
    assert workers["heartbeat_timeout_s"] == ALIVE_S
    scaling = msgspec.structs.asdict(Scaling())
    assert (scaling.pop("limits"), scaling.pop("timeouts")) == (autoscaler.limits, autoscaler.reconcile_timeouts)
    shared = scaling.keys() & autoscaler.model_dump().keys()
    assert scaling.keys() - shared == {"enabled", "pins"}
    assert {name: scaling[name] for name in shared} == {name: getattr(autoscaler, name) for name in shared}


def test_up_flags_default_to_up_options() -> None:
    options = msgspec.structs.asdict(UpOptions(home=DEFAULT_HOME))
    flags = {n: p.default for n, p in inspect.signature(up).parameters.items()}
    asked_of_the_environment = {"kafka"}
    shared = (options.keys() & flags.keys()) - asked_of_the_environment
    assert len(shared) > 12
    assert {name: flags[name] for name in shared} == {name: options[name] for name in shared}


def test_up_options_default_to_service_settings() -> None:
    options, gateway = UpOptions(home=DEFAULT_HOME), GatewaySettings()
    assert (options.gateway_host, options.gateway_port) == (gateway.host, gateway.port)
    assert KafkaSettings().bootstrap == f"{gateway.host}:{options.kafka_port}"
    assert options.policy == AutoscalerSettings().policy
    assert options.home == AutoscalerSettings().home


def test_registration_defaults_same_in_zoo_and_cli() -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(Registration)}
    for function in (register, register_zoo):
        defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
        for name in ("max_batch", "partitions", "threads"):
            assert defaults[name] == fields[name], (function, name)
    assert WorkerSettings().threads == fields["threads"], "latencies are measured on as many as serve"
