"""Settings and numbers of running services as those of a scenario file, from the environments of their processes.

The settings of a service are variables such as `INFAAS_AUTOSCALER_HEADROOM`; absent ones have the defaults
of the services, which are those of the simulator, too.
"""

from collections import Counter
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
from simulator.scenario_file import ScenarioFile, convert_scenario, set_field

_FIELDS: Final = (
    ("autoscaler", "scaling", Scaling),
    ("autoscaler", "scaling.limits", ScalingLimits),
    ("autoscaler", "scaling.timeouts", ReconcileTimeouts),
    ("selector", "policy", PolicyConfig),
    ("workers", "workers", Workers),
)
"""Module of a service, and the part of a scenario that holds its settings."""


_PROCESSES: Final = {"selectors": "selector", "gateways": "gateway"}
"""Module of the services of which a scenario has a number."""
_SETTABLE: Final = ("maximum", "selectors", "gateways", "policy", "scaling", "workers", "delays")
"""Parts of a scenario that a calibration does not take from the system and its runs in any case."""


def system_settings(state: SystemState | None, given: Mapping[str, Any]) -> ScenarioFile:
    """Return the settings of a system, which are read if it runs on this machine; the given ones replace them.

    Raises:
        OperatorError: a given one is unknown or invalid.
    """
    document = {} if state is None else _read_settings(state)
    for path, value in given.items():
        if path.partition(".")[0] not in _SETTABLE:
            raise OperatorError(f"{path} cannot be set: a calibration has settings of {', '.join(_SETTABLE)}")
        set_field(document, path, value)
    return convert_scenario(document)


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


def _read_settings(state: SystemState) -> dict[str, Any]:
    """Return the settings of the services of a system on this machine, if their environments can be read."""
    environments: dict[str, dict[str, str]] = {}
    for service in state.services.values():
        with suppress(psutil.Error):
            environments.setdefault(service.module, psutil.Process(service.pid).environ())
    processes = Counter(service.module for service in state.services.values())
    return settings_document(environments) | {
        field: processes[module] for field, module in _PROCESSES.items() if processes[module]
    }


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
