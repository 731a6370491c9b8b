"""Names of workers that a launcher starts: `<hardware>-<number>`. A worker that somebody else started may have any."""


def worker_name(hardware: str, number: int) -> str:
    """The name of this worker of the hardware."""
    return f"{hardware}-{number}"


def hardware_of(worker: str) -> str:
    """The part before the number."""
    return worker.rpartition("-")[0]


def number_of(worker: str) -> int:
    """The number at the end; -1 without one: where the highest goes first, it goes last."""
    digits = worker.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1
