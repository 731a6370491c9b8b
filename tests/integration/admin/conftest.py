"""Fixtures of the admin tests: a command line without a running system, and a gateway without authentication."""

from tests.integration.gateway.conftest import gateway, gateway_settings
from tests.unit.infaas.conftest import shell

__all__ = ["gateway", "gateway_settings", "shell"]
