"""Command line of a registrar: its composition root."""

from registrar.service import serve
from registrar.settings import RegistrarSettings
from registry.service_command import run_service_command


def main() -> int:
    """Run the service, or with `--check` only check its dependencies; return the exit code."""
    return run_service_command(
        "registrar", RegistrarSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )
