"""Entry point of `python -m workers`.

A worker is started where others serve, often because they have too much to do. So all that it is made of is imported in
a thread that lets them go first: that takes a second of a core.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from process.priority import lower_priority
from process.start import leave_when_told


def _imported() -> Callable[[], int]:
    from workers.command import main

    return main


if __name__ == "__main__":
    leave_when_told()
    with ThreadPoolExecutor(1, "imports", lower_priority) as importer:
        command = importer.submit(_imported).result()
    sys.exit(command())
