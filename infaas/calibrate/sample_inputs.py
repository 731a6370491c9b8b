"""Inputs for the queries of a task: given ones, those of the zoo, or random ones of the task's signature."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from infaas.up.optional_zoo import zoo_example
from registry.labelled_files import read_rows
from registry.samples import synthetic_inputs
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import Task
from schemas.tensors import Array


def sample_inputs(task: Task, files: Mapping[str, Path], most: int) -> dict[str, Array]:
    """Return arrays of at least `most` rows, by input.

    Raises:
        OperatorError: a file cannot be read, or the task takes inputs that cannot be made up and has no file.
    """
    rows = _rows(task, files.get(task.name), most)
    count = len(next(iter(rows.values())))
    order = np.arange(most) % count
    return {name: array[order] for name, array in rows.items()}


def _rows(task: Task, file: Path | None, most: int) -> Mapping[str, Array]:
    if file is not None:
        return read_rows(file, task.inputs, most).inputs
    if (example := zoo_example(task.name)) is not None:
        return example
    try:
        return synthetic_inputs(task.inputs)
    except InvalidRequest as error:
        raise OperatorError(f"task {task.name}: {error}; --inputs {task.name}=FILE.npz gives some") from error
