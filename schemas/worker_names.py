"""Names of workers that a launcher starts: `<prefix><hardware>-<number>`.

The prefix is empty, or distinguishes the workers of different machines. A worker that was started by other means may
have any name.
"""


def worker_name(hardware: str, number: int, prefix: str = "") -> str:
    """Return the name of the worker of this hardware and number."""
    return f"{prefix}{hardware}-{number}"


def hardware_of(worker: str) -> str:
    """Return the hardware in a worker's name, the word before the number."""
    return worker.rpartition("-")[0].rpartition("-")[2]


def number_of(worker: str) -> int:
    """Return the number in a worker's name; -1 if there is none, which is last in descending order."""
    digits = worker.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1
