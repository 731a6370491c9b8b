"""Command line of a selector."""

from registry.service_command import run_service_command
from selector.service import serve
from selector.settings import SelectorSettings


def main() -> int:
    """Run the service, or with `--check` test whether it could run. Return the exit code."""
    return run_service_command(
        "selector", SelectorSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )
