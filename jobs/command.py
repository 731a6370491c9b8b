"""Command line of the jobs service: its composition root."""

from jobs.service import serve
from jobs.settings import JobsSettings
from registry.service_command import run_service_command


def main() -> int:
    """Run the service, or with `--check` check whether it could start; return the exit code."""
    return run_service_command("jobs", JobsSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop))
