"""The command line of a machine where nothing runs, and a gateway that asks nobody who they are."""

from tests.integration.gateway.conftest import gateway, gateway_settings
from tests.unit.infaas.conftest import shell

__all__ = ["gateway", "gateway_settings", "shell"]
