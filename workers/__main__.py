"""Entry point of `python -m workers`: the command line of a worker.

Imports take about a second of a core, and a worker often starts on a machine whose other workers are busy. They run in
a thread of low priority, so that they do not delay queries.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from process.cpus import lower_priority
from process.start import exit_on_signal


def import_command() -> Callable[[], int]:
    """Import the service. Return the function that runs it, or with `--check` reports if it could run."""
    from registry.system_identity import run_service_command
    from workers.service import serve_named
    from workers.settings import WorkerSettings

    return lambda: run_service_command("workers", WorkerSettings, serve_named)


if __name__ == "__main__":
    exit_on_signal()
    with ThreadPoolExecutor(1, "imports", lower_priority) as importer:
        command = importer.submit(import_command).result()
    sys.exit(command())
