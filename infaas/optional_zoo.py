"""The zoo where it is installed: a distribution of its own (`infaas-zoo`), ninety times as large as everything else.

Rules: only functions import the zoo, or `infaas.demo`, which is about it, and after `require_zoo`; others ask here.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import OperatorError
from schemas.tensors import Array


def require_zoo() -> None:
    """Return if the zoo is installed.

    Raises:
        OperatorError: it is not; the message says how to install it.
    """
    if find_spec("zoo") is None:
        raise OperatorError(
            "the models of the zoo are not installed, and no package index has them: run `pip install ./zoo` in a "
            "checkout of INFaaS"
        )


def zoo_example(task: str) -> Mapping[str, Array] | None:
    """Return one held-out input of a task of the zoo; None if the zoo has no such task or is not installed."""
    if not _knows(task):
        return None
    from zoo.samples import example

    return example(task)


def zoo_files(task: str, cache: Path) -> tuple[Path, Path] | None:
    """Return the files that measure and that calibrate a task of the zoo, in `cache`; None if the zoo has none."""
    if not _knows(task):
        return None
    from zoo.register import labelled_files

    return labelled_files(task, cache)


def _knows(task: str) -> bool:
    if find_spec("zoo") is None:
        return False
    from zoo.samples import ALL_TASKS

    return task in ALL_TASKS
