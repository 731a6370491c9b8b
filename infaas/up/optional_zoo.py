"""Access to the zoo, an optional distribution (`infaas-zoo`) that is much larger than the rest of INFaaS.

Rules: only functions import `zoo` or `infaas.up.demo`, and only after `require_zoo`. All other code uses the functions
of this module.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from process.module_names import module_name
from runtimes.device import missing_package
from schemas.errors import OperatorError
from schemas.tensors import Array

ZOO: Final = "infaas_zoo" if module_name("") else "zoo"
"""Import name of the zoo: its wheel, like ours, has a name of its own."""


def require_zoo() -> None:
    """Raise an error unless the zoo is installed.

    Raises:
        OperatorError: the zoo is not installed; the message explains how to install it.
    """
    if find_spec(ZOO) is None:
        raise OperatorError(
            "the zoo's models are not installed; no package index has them: run `pip install ./packages/zoo` in a "
            "checkout of INFaaS"
        )


def require_language_model() -> None:
    """Raise an error unless a language model of the zoo, and the runtime for it, are installed.

    Raises:
        OperatorError: one of them is not installed; the message explains how to install it.
    """
    from zoo.chat import SMOLLM, chat_model_file

    if absent := missing_package("xllamacpp", "llama.cpp", "generative"):
        raise OperatorError(absent)
    chat_model_file(SMOLLM, Path())


def zoo_example(task: str) -> Mapping[str, Array] | None:
    """Return one held-out input of a zoo task; None if the zoo has no such task or is not installed."""
    if not _knows(task):
        return None
    from zoo.samples import example

    return example(task)


def zoo_files(task: str, cache: Path) -> tuple[Path, Path] | None:
    """Return the paths of the validation file and the calibration file of a zoo task, in this order.

    The files are written to `cache`. Returns None if the zoo has no such task or is not installed.
    """
    if not _knows(task):
        return None
    from zoo.register import labelled_files

    return labelled_files(task, cache)


def _knows(task: str) -> bool:
    if find_spec(ZOO) is None:
        return False
    from zoo.samples import ALL_TASKS

    return task in ALL_TASKS
