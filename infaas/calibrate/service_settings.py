"""Settings of running services as a document of a scenario file, from the environments of their processes.

The settings of a service are variables such as `INFAAS_AUTOSCALER_HEADROOM`; absent ones have the defaults
of the services, which are those of the simulator, too.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import psutil

from autoscaler.apply.reconcile_plan import ReconcileTimeouts
from autoscaler.decide.snapshot import ScalingLimits
from infaas.up.state import SystemState
from schemas.errors import OperatorError
from selector.policy.choice import PolicyConfig
from simulator.scenario import Scaling, Workers
from simulator.scenario_file import convert_scenario, set_field

_FIELDS: Final = (
    ("autoscaler", "scaling", Scaling),
    ("autoscaler", "scaling.limits", ScalingLimits),
    ("autoscaler", "scaling.timeouts", ReconcileTimeouts),
    ("selector", "policy", PolicyConfig),
    ("workers", "workers", Workers),
)
"""Module of a service, and the part of a scenario that holds its settings."""


def settings_document(environments: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the settings in the environments of one process of each module."""
    document: dict[str, Any] = {}
    for module, part, kind in _FIELDS:
        environment = environments.get(module, {})
        for field in kind.__struct_fields__:
            names = (f"INFAAS_{module.upper()}_{field.upper()}", f"INFAAS_{field.upper()}")
            text = next((environment[name] for name in names if name in environment), None)
            if text is not None:
                _set(document, f"{part}.{field}", text)
    return document


def read_settings(state: SystemState) -> dict[str, Any]:
    """Return the settings of the services of a system on this machine; of those whose environments can be read."""
    environments: dict[str, dict[str, str]] = {}
    for service in state.services.values():
        with suppress(psutil.Error):
            environments.setdefault(service.module, psutil.Process(service.pid).environ())
    return settings_document(environments)


def _set(document: dict[str, Any], path: str, text: str) -> None:
    """Set a field, unless the simulator has no such value."""
    try:
        value: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    trial: dict[str, Any] = {}
    set_field(trial, path, value)
    with suppress(OperatorError):
        convert_scenario(trial)
        set_field(document, path, value)
