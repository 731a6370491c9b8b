"""`--parameter NAME=VALUE`: parameters of the model, such as the sampling options of generated text."""

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec
import typer

from schemas.errors import InvalidRequest
from schemas.query_names import Parameter

ParametersFlag: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--parameter", help="NAME=VALUE of the model, e.g. temperature=0; repeat it for more."),
]


def read_parameters(texts: Iterable[str]) -> dict[str, Parameter]:
    """Return the parameters by name; a value that is no number or flag is a text.

    Raises:
        InvalidRequest: a text has no name, or no `=`.
    """
    return dict(map(_parameter, texts))


def _parameter(text: str) -> tuple[str, Parameter]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidRequest(f"--parameter {text}: write NAME=VALUE")
    try:
        return name, msgspec.json.decode(value, type=bool | int | float)
    except msgspec.MsgspecError:
        return name, value
