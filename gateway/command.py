"""Command line of the gateway: its composition root."""

from gateway.service import serve
from gateway.settings import GatewaySettings
from registry.service_command import run_service_command


def main() -> int:
    """Run the service, or with `--check` check whether it could start; return the exit code."""
    return run_service_command(
        "gateway", GatewaySettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )
