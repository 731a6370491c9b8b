"""Entry point and composition of the jobs service: `python -m gateway.jobs`."""

import sys

from process.start import exit_on_signal


def main() -> int:
    """Run the service, or with `--check` check whether it could start; return the exit code."""
    from gateway.jobs.service import serve
    from gateway.jobs.settings import JobsSettings
    from registry.system_identity import run_service_command

    return run_service_command("jobs", JobsSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop))


if __name__ == "__main__":
    exit_on_signal()  # before the slow imports in `main`
    sys.exit(main())
