"""Names of workers that a launcher starts: `<prefix><hardware>-<number>`.

The prefix is empty, or tells one machine's workers from another's. A worker that somebody else started may have any
name.
"""


def worker_name(hardware: str, number: int, prefix: str = "") -> str:
    """Name of the worker of this hardware and number."""
    return f"{prefix}{hardware}-{number}"


def hardware_of(worker: str) -> str:
    """Hardware in a worker's name: the word before the number."""
    return worker.rpartition("-")[0].rpartition("-")[2]


def number_of(worker: str) -> int:
    """Number at the end of a worker's name; -1 without one: where the highest goes first, it goes last."""
    digits = worker.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1
