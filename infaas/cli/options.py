"""Commands whose options and arguments are generated from the fields of request structs.

A field with a description (`param`) becomes an option, or an argument if it is required; its type gives the range and
the choices, its default the option's default. Other fields have no option: the command sets them itself. Structs of the
command line alone describe fields with `typer.Option` and `typer.Argument`.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import typer
from msgspec.inspect import BoolType, CollectionType, DateTimeType, EnumType, FloatType, IntType
from rich.console import RenderableType
from typer.models import ParameterInfo

from admin.api import Endpoint, kinds_of
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.moments import parse_moment
from infaas.cli.output import show, show_json
from schemas.errors import InvalidRequest, OperatorError

Q = TypeVar("Q")
R = TypeVar("R")
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_COMMON = (
    inspect.Parameter("home", _KEYWORD, default=DEFAULT_HOME, annotation=Home),
    inspect.Parameter("as_json", _KEYWORD, default=False, annotation=Json),
)


class RequestOptions(Generic[Q]):
    """Values that the command line gives for the fields of a request.

    A command function declares `options: RequestOptions[SomeRequest]` and uses `with_options`.
    """

    def __init__(self, kind: type[Q], values: dict[str, Any]) -> None:
        self._kind = kind
        self._values = values

    def request(self, **others: Any) -> Q:
        """Return the request; `others` are the values of the fields without an option."""
        return self._kind(**self._values, **others)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter of type `RequestOptions` by the options and arguments of its request."""
    own = list(inspect.signature(command).parameters.values())
    place, options = next((i, one) for i, one in enumerate(own) if get_origin(one.annotation) is RequestOptions)
    [kind] = get_args(options.annotation)

    def run(**values: Any) -> None:
        command(**{options.name: RequestOptions(kind, _taken(kind, values))}, **values)

    parameters = [*own[:place], *_parameters(kind), *own[place + 1 :]]
    return _described(run, command.__name__, command.__doc__, parameters)


def prints(endpoint: Endpoint[Q, R], shown: Callable[[Q, R], RenderableType | None]) -> Callable[..., None]:
    """Return a command that sends the request of an endpoint and prints the result; as JSON with `--json`.

    Args:
        endpoint: endpoint whose summary is the command's help.
        shown: returns what to show of a request and its result, or shows it itself. The command has its name.
    """

    def run(**values: Any) -> None:
        request = endpoint.request(**_taken(endpoint.request, values))
        result = call(values["home"], endpoint, request)
        if values["as_json"]:
            show_json(result)
        elif (text := shown(request, result)) is not None:
            show(text)

    parameters = [*_parameters(endpoint.request), *_COMMON]
    return _described(run, getattr(shown, "__name__", "").strip("_"), endpoint.summary, parameters)


def _described(
    run: Callable[..., None], name: str, text: str | None, parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    by_keyword = [one.replace(kind=_KEYWORD) for one in parameters]
    described: Any = run
    described.__signature__ = inspect.Signature(by_keyword)
    described.__annotations__ = {}
    described.__name__, described.__doc__ = name, text
    return run


class _Field(NamedTuple):
    """Field of a request that has an option."""

    name: str
    default: Any
    """Default of the option; `inspect.Parameter.empty` if the field is required."""
    kind: Any
    text: str
    extra: dict[str, Any]
    """Arguments of `param`."""


@cache
def _fields(request: type) -> Sequence[_Field]:
    found: Any = msgspec.inspect.type_info(request)
    fields: list[_Field] = []
    for field in getattr(found, "fields", ()):
        extra = getattr(field.type, "extra", None)
        if extra is not None and "flags" in extra:
            default = inspect.Parameter.empty if field.required else field.default
            default = None if default is msgspec.NODEFAULT else default  # an empty list
            text = field.type.extra_json_schema["description"]
            fields.append(_Field(field.name, default, next(kinds_of(field.type)), text, extra))
    return fields


@cache
def _described_by_typer(request: type) -> Mapping[str, Any]:
    """Return the types of the fields with `typer.Option` or `typer.Argument`."""
    hints = get_type_hints(request, include_extras=True)
    return {
        name: hint
        for name, hint in hints.items()
        if any(isinstance(one, ParameterInfo) for one in getattr(hint, "__metadata__", ()))
    }


def _parameters(request: type) -> Iterator[inspect.Parameter]:
    described = _described_by_typer(request)
    for field in msgspec.structs.fields(request):
        if field.name in described:
            default = inspect.Parameter.empty if field.required else field.default
            yield inspect.Parameter(field.name, _KEYWORD, default=default, annotation=described[field.name])
    for field in _fields(request):
        yield _generated(field)


def _generated(field: _Field) -> inspect.Parameter:
    kind, text, extra = field.kind, field.text, field.extra
    required = field.default is inspect.Parameter.empty
    if isinstance(kind, DateTimeType):
        text += f" Write {'12h or 30d from now, or a date' if extra['ahead'] else '2h (ago), or 2026-01-31T12:00'}."
    details: dict[str, Any] = {"help": text, "metavar": extra["metavar"]}
    if isinstance(kind, IntType | FloatType):
        details |= {"min": _first(kind.ge, kind.gt), "max": _first(kind.le, kind.lt)}
    if required or extra["argument"]:
        option: Any = typer.Argument(**details)
    else:
        details["help"] += " Repeatable." * isinstance(kind, CollectionType)
        flags = extra["flags"] or ([f"--{field.name}"] if isinstance(kind, BoolType) else ())
        option = typer.Option(*flags, **details)
    annotation = _type_of(kind) if field.default is not None else _type_of(kind) | None
    return inspect.Parameter(field.name, _KEYWORD, default=field.default, annotation=Annotated[annotation, option])


def _type_of(kind: Any) -> Any:
    match kind:
        case BoolType():
            return bool
        case IntType():
            return int
        case FloatType():
            return float
        case EnumType():
            return kind.cls
        case CollectionType():
            return list[str]
        case _:
            return str


def _first(*bounds: float | None) -> float | None:
    return next((bound for bound in bounds if bound is not None), None)


def _taken(request: type, values: dict[str, Any]) -> dict[str, Any]:
    """Remove the values of a request's fields from those of a command line, and return them."""
    found = {name: values.pop(name) for name in _described_by_typer(request)}
    found |= {field.name: _parsed(field, values.pop(field.name)) for field in _fields(request)}
    return {name: value for name, value in found.items() if value is not None}


def _parsed(field: _Field, value: Any) -> Any:
    kind, ahead = field.kind, field.extra["ahead"]
    flag = next(iter(field.extra["flags"]), f"--{field.name.replace('_', '-')}")
    if isinstance(kind, FloatType) and value is not None and not math.isfinite(value):
        raise InvalidRequest(f"{flag} must be a finite number; leave it out for no limit")
    if isinstance(kind, DateTimeType) and value is not None:
        at = parse_moment(value, ahead=ahead)
        if ahead and at <= datetime.now(UTC):
            raise OperatorError(f"{flag} {value} has passed")
        return at
    return value or None if isinstance(kind, CollectionType) else value
