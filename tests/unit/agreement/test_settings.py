"""Each default is said once, and what two services must assume alike is one setting that both hear."""

import inspect

import msgspec
import pytest
from pydantic_settings import BaseSettings

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import ScalingLimits
from autoscaler.settings import AutoscalerSettings
from broker.settings import KafkaSettings
from gateway.settings import GatewaySettings
from infaas.cli.connect import DEFAULT_HOME
from infaas.cli.register import register
from infaas.cli.system import up
from infaas.supervisor.options import UpOptions
from jobs.settings import JobsSettings
from process.settings import PlanningSettings, ServiceSettings
from registrar.settings import RegistrarSettings
from registry.registration import Registration
from selector.cluster_state import ClusterState
from selector.policy import PolicyConfig
from selector.settings import SelectorSettings
from store.settings import StoreSettings
from workers.settings import WorkerSettings
from zoo.register import register_zoo

SERVICES: tuple[type[ServiceSettings], ...] = (
    AutoscalerSettings,
    GatewaySettings,
    JobsSettings,
    RegistrarSettings,
    SelectorSettings,
    WorkerSettings,
)
ALL: tuple[type[BaseSettings], ...] = (*SERVICES, KafkaSettings, StoreSettings)


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests' own environment says is not a default."""
    for kind in ALL:
        for variable in variables(kind).values():
            monkeypatch.delenv(variable, raising=False)


def variables(kind: type[BaseSettings]) -> dict[str, str]:
    """By field, the environment variable that sets it."""
    prefix = kind.model_config.get("env_prefix", "")
    return {n: str(field.validation_alias or f"{prefix}{n}".upper()) for n, field in kind.model_fields.items()}


def test_unset_settings_are_what_decisions_take_for_granted() -> None:
    assert AutoscalerSettings().limits == ScalingLimits()
    assert AutoscalerSettings().reconcile_timeouts == ReconcileTimeouts()
    assert SelectorSettings().policy_config() == PolicyConfig()


@pytest.mark.parametrize("name", sorted(ScalingLimits.__struct_fields__))
def test_a_limit_that_is_a_setting_reaches_the_decision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = variables(AutoscalerSettings).get(name)
    if variable is None:
        assert getattr(AutoscalerSettings().limits, name) == getattr(ScalingLimits(), name)
        return
    value = 0.5 if name == "memory_share" else 7
    monkeypatch.setenv(variable, str(value))
    assert getattr(AutoscalerSettings().limits, name) == value


@pytest.mark.parametrize(
    ("variable", "name"), [("INFAAS_DEFAULT_LATENCY_S", "default_latency_s"), ("INFAAS_HOP_S", "hop_s")]
)
def test_what_both_assume_is_set_once_and_heard_by_both(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "0.25")
    selector, autoscaler = SelectorSettings(), AutoscalerSettings()
    assert getattr(autoscaler.limits, name) == getattr(selector, name) == 0.25
    if name in PolicyConfig.__struct_fields__:
        assert getattr(selector.policy_config(), name) == 0.25


def test_the_selector_assumes_the_same_hop_as_the_autoscaler() -> None:
    assert ClusterState().hop_s == ScalingLimits().hop_s == SelectorSettings().hop_s


def test_a_variable_belongs_to_one_class_of_settings() -> None:
    """Two classes that declare the same variable would each have a default of their own."""
    owners: dict[str, set[type]] = {}
    for kind in ALL:
        for name, variable in variables(kind).items():
            owner = next(base for base in reversed(kind.__mro__) if name in getattr(base, "model_fields", ()))
            owners.setdefault(variable, set()).add(owner)
    assert {variable: found for variable, found in owners.items() if len(found) > 1} == {}


def test_services_do_not_set_alone_what_others_set_too() -> None:
    """No own prefix for what is shared: `INFAAS_SELECTOR_DEFAULT_LATENCY_S` would be heard by the selector alone."""
    for kind in (SelectorSettings, AutoscalerSettings):
        for name in PlanningSettings.model_fields.keys() - ServiceSettings.model_fields.keys():
            assert variables(kind)[name] == f"INFAAS_{name.upper()}"


def test_the_flags_of_up_default_to_its_options() -> None:
    options = msgspec.structs.asdict(UpOptions(home=DEFAULT_HOME))
    flags = {n: p.default for n, p in inspect.signature(up).parameters.items()}
    asked_of_the_environment = {"kafka"}
    shared = (options.keys() & flags.keys()) - asked_of_the_environment
    assert len(shared) > 12
    assert {name: flags[name] for name in shared} == {name: options[name] for name in shared}


def test_up_defaults_to_what_the_services_default_to() -> None:
    options, gateway = UpOptions(home=DEFAULT_HOME), GatewaySettings()
    assert (options.gateway_host, options.gateway_port) == (gateway.host, gateway.port)
    assert KafkaSettings().bootstrap == f"{gateway.host}:{options.kafka_port}"
    assert options.policy == AutoscalerSettings().policy
    assert options.home == AutoscalerSettings().home


def test_a_model_the_zoo_and_the_command_line_register_alike() -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(Registration)}
    for function in (register, register_zoo):
        defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
        for name in ("max_batch", "partitions", "threads"):
            assert defaults[name] == fields[name], (function, name)
    assert WorkerSettings().threads == fields["threads"], "latencies are measured on as many as serve"
