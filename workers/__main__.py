"""Entry point of `python -m workers`.

Imports take about a second of a core, and a worker often starts on a machine whose other workers are busy. They run in
a thread of low priority, so that they do not delay queries.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from process.priority import lower_priority
from process.start import exit_on_signal


def _imported() -> Callable[[], int]:
    from workers.command import main

    return main


if __name__ == "__main__":
    exit_on_signal()
    with ThreadPoolExecutor(1, "imports", lower_priority) as importer:
        command = importer.submit(_imported).result()
    sys.exit(command())
