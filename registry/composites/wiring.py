"""Connects the outputs of one task to the inputs of the next, if they fit. Pure.

Names, datatypes and shapes are checked when a chain is declared. Only a property that a datatype cannot express is
checked during computation: that numbers are valid rows of a table.
"""

from collections.abc import Mapping

from registry.signature import VARIABLE
from runtimes.composite import Feed
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Task
from schemas.rows.tensor_spec import TensorSpec


def wire(source: Task, target: Task, declared: Mapping[str, str]) -> dict[str, Feed]:
    """Return the feed of each input of `target`: the declared output, else the output of its name, else the only one.

    Raises:
        InvalidRequest: an input has no output, or one that does not fit; the message says how to declare one.
    """
    for name in declared:
        if name not in {spec.name for spec in target.inputs}:
            inputs = ", ".join(spec.name for spec in target.inputs)
            raise InvalidRequest(f"task {target.name} has no input {name!r}; it has {inputs}")
    return {spec.name: _feed(source, target, spec, declared.get(spec.name)) for spec in target.inputs}


def _feed(source: Task, target: Task, wanted: TensorSpec, declared: str | None) -> Feed:
    given = {spec.name: spec for spec in source.outputs}
    name = declared or wanted.name
    if name not in given and declared is None and len(given) == len(target.inputs) == 1:
        name = source.outputs[0].name
    if name not in given:
        raise InvalidRequest(
            f"task {source.name} has no output for the input {wanted.name!r} of {target.name}; it has "
            f"{', '.join(given)}: choose one by --feed {target.name}.{wanted.name}=OUTPUT"
        )
    _check_fits(source, target, given[name], wanted)
    return Feed(output=name, below=wanted.below)


def _check_fits(source: Task, target: Task, given: TensorSpec, wanted: TensorSpec) -> None:
    what = f"output {given.name!r} of task {source.name} cannot be the input {wanted.name!r} of {target.name}"
    if given.datatype != wanted.datatype:
        raise InvalidRequest(f"{what}: it is {given.datatype}, but must be {wanted.datatype}")
    fits = len(given.shape) == len(wanted.shape) and all(
        theirs in (VARIABLE, ours) for ours, theirs in zip(given.shape, wanted.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(f"{what}: its shape is {list(given.shape)}, but must be {list(wanted.shape)}")
