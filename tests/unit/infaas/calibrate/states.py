"""States of systems whose processes do not run."""

from infaas.up.state import ServiceState, SystemState

NOBODY = 2**31 - 1
"""No process has this id."""


def system(*modules: str) -> SystemState:
    """Return the state of a system with services of these modules."""
    return SystemState(
        pid=NOBODY, ready=True, gateway="http://127.0.0.1:8080", kafka="", kafka_kind="apache", kafka_reason="",
        fetch_max_wait_ms=500, postgres="", servers={},
        services={
            f"{module}-{number}": ServiceState(module=module, pid=NOBODY, restarts=0, health="", metrics="", log="")
            for number, module in enumerate(modules)
        },
    )  # fmt: skip
